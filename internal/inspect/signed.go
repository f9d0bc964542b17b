package inspect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/internal/secret"
	"example.com/rolecall/pki"
)

// signedMessage explains a SignedRequest or a SignedResponse in JSON; nil if the data is neither.
func signedMessage(data []byte, opts Options) *pki.Inspection {
	var request rolecallv1.SignedRequest
	if len(data) == 0 || data[0] != '{' {
		return nil
	}
	if protojson.Unmarshal(data, &request) == nil && request.GetProof() != "" {
		return signedRequest(&request, opts)
	}
	var response rolecallv1.SignedResponse
	if protojson.Unmarshal(data, &response) == nil && response.GetReceipt() != "" {
		return signedResponse(&response, opts)
	}
	return nil
}

const (
	// maxDepth bounds how deep in an answer a signed message is looked for, and so how often each byte of it is read.
	maxDepth = 8
	// maxObjects bounds how many are explained; most messages are two, with their proof or receipt.
	maxObjects = 200
)

// signedMembers explains the signed messages in the members of a JSON object, as in an answer that rolecall call has printed;
// nil if there is none.
func signedMembers(data []byte, opts Options) *pki.Inspection {
	all := &pki.Inspection{Kind: "JSON with a signed message in it"}
	addMembers(all, data, "", maxDepth, opts)
	if len(all.Objects) == 0 {
		return nil
	}
	return all
}

// addMembers adds those in the members of one object, whose name ends with a dot, and of objects in it down to a depth.
func addMembers(all *pki.Inspection, data []byte, name string, depth int, opts Options) {
	var members map[string]json.RawMessage
	if depth == 0 || json.Unmarshal(data, &members) != nil {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(members)) {
		found := signedMessage(members[key], opts)
		switch {
		case len(all.Problems) > 0:
			return
		case found == nil:
			addMembers(all, members[key], name+key+".", depth-1, opts)
		case len(all.Objects) >= maxObjects:
			all.Problems = append(all.Problems, "there are more signed messages in it, which were not looked at")
		default:
			at := pki.Field{Name: "member", Value: name + key}
			found.Objects[0].Fields = append([]pki.Field{at}, found.Objects[0].Fields...)
			all.Objects = append(all.Objects, found.Objects...)
		}
	}
}

func signedRequest(r *rolecallv1.SignedRequest, opts Options) *pki.Inspection {
	o := newObject("request that a workload signed for another to pass on")
	o.field("method", "%s", r.GetMethod())
	o.message("request", r.GetMethod(), r.GetRequest(), protoreflect.MethodDescriptor.Input)
	t := parseCompact([]byte(r.GetProof()))
	if t == nil {
		o.problem("what it has for a proof is none")
		return whole(o)
	}
	if signed := text(t.claims, "mth"); signed != r.GetMethod() {
		o.problem("the proof is for the method %s: the request is refused", signed)
	}
	opts.Body = nonNil(r.GetRequest())
	return whole(o, inspectProof(t, opts))
}

func signedResponse(r *rolecallv1.SignedResponse, opts Options) *pki.Inspection {
	o := newObject("answer with its receipt")
	t := parseCompact([]byte(r.GetReceipt()))
	if t == nil {
		o.problem("what it has for a receipt is none")
		return whole(o)
	}
	method := text(t.claims, "mth")
	o.field("method", "%s", method)
	o.message("response", method, r.GetResponse(), protoreflect.MethodDescriptor.Output)
	opts.Body = nonNil(r.GetResponse())
	return whole(o, inspectReceipt(t, opts))
}

// nonNil keeps an empty message apart from none.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// message shows what the bytes of a message say, if the method is known, without what is secret in it.
func (o *object) message(name, method string, data []byte, of func(protoreflect.MethodDescriptor) protoreflect.MessageDescriptor) {
	m, err := methodNamed(method)
	if err != nil {
		o.field(name, "%d bytes; what they say is not known here", len(data))
		return
	}
	message := dynamicpb.NewMessage(of(m))
	if err := proto.Unmarshal(data, message); err != nil {
		o.problem("the bytes are no %s: %v", of(m).FullName(), err)
		return
	}
	secret.Clear(message)
	written, err := protojson.Marshal(message)
	var line bytes.Buffer
	if err != nil || json.Compact(&line, written) != nil {
		o.problem("what the bytes say cannot be shown")
		return
	}
	o.field(name, "%s %s", of(m).FullName(), line.String())
	if len(message.GetUnknown()) > 0 {
		o.field("", "and fields that are not known here")
	}
}

func methodNamed(full string) (protoreflect.MethodDescriptor, error) {
	name := protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(full, "/"), "/", "."))
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(name)
	if err != nil {
		return nil, err
	}
	m, ok := d.(protoreflect.MethodDescriptor)
	if !ok {
		return nil, fmt.Errorf("%s is no method", full)
	}
	return m, nil
}
