package call

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
)

var (
	signedRequest  = (*rolecallv1.SignedRequest)(nil).ProtoReflect().Descriptor().FullName()
	signedResponse = (*rolecallv1.SignedResponse)(nil).ProtoReflect().Descriptor().FullName()
)

// Signed are requests that were signed for somebody to pass on, by the field of the request that carries each.
type Signed map[protoreflect.Name]*rolecallv1.SignedRequest

// Add reads one in JSON, as Sign made it.
func (s Signed) Add(field string, data []byte) error {
	request := &rolecallv1.SignedRequest{}
	if err := protojson.Unmarshal(data, request); err != nil || request.GetMethod() == "" || request.GetProof() == "" {
		return &InputError{fmt.Errorf("%s is no signed request in JSON, as rolecall call --sign prints it", field)}
	}
	if s[protoreflect.Name(field)] != nil {
		return &InputError{fmt.Errorf("%s is given twice", field)}
	}
	s[protoreflect.Name(field)] = request
	return nil
}

// Put puts them into their fields of a request.
func (s Signed) Put(request *Message) error {
	for name, signed := range s {
		f := request.Descriptor().Fields().ByName(name)
		if f == nil || f.Message() == nil || f.IsList() || f.Message().FullName() != signedRequest {
			return &InputError{fmt.Errorf("%s has no field %s that takes a signed request: %s", request.Descriptor().FullName(), name, fieldsOf(request.Descriptor(), signedRequest))}
		}
		if request.Has(f) {
			return &InputError{fmt.Errorf("%s is in the request already", name)}
		}
		data, err := proto.Marshal(signed)
		if err == nil {
			err = proto.Unmarshal(data, request.Mutable(f).Message().Interface())
		}
		if err != nil {
			return fmt.Errorf("put %s into the request: %w", name, err)
		}
	}
	return nil
}

// fieldsOf names the fields of a message that hold one of a type.
func fieldsOf(d protoreflect.MessageDescriptor, held protoreflect.FullName) string {
	var names []string
	for i := range d.Fields().Len() {
		if f := d.Fields().Get(i); f.Message() != nil && !f.IsList() && f.Message().FullName() == held {
			names = append(names, string(f.Name()))
		}
	}
	if len(names) == 0 {
		return "none does"
	}
	return strings.Join(names, " and ") + " does"
}

// Answered is the answer to one of them, in the field of the response that has the same name.
type Answered struct {
	Field    protoreflect.Name
	Request  *rolecallv1.SignedRequest
	Response *rolecallv1.SignedResponse
}

// Answers finds the answers in a response. A field that is not set has none.
func (s Signed) Answers(response *Message) ([]Answered, error) {
	var all []Answered
	for name, request := range s {
		f := response.Descriptor().Fields().ByName(name)
		if f == nil || f.Message() == nil || f.IsList() || f.Message().FullName() != signedResponse || !response.Has(f) {
			continue
		}
		data, err := proto.Marshal(response.Get(f).Message().Interface())
		answer := &rolecallv1.SignedResponse{}
		if err == nil {
			err = proto.Unmarshal(data, answer)
		}
		if err != nil {
			return nil, fmt.Errorf("read %s of the response: %w", name, err)
		}
		all = append(all, Answered{name, request, answer})
	}
	return all, nil
}

// VerifyReceipt tells whether the server that the request was signed for has signed this answer to it.
func (c *Client) VerifyReceipt(ctx context.Context, a Answered) error {
	return c.proofs.VerifyReceipt(ctx, a.Request, a.Response)
}
