package call

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/internal/secret"
)

// Message is a request or a response.
type Message = dynamicpb.Message

// Input is request messages in JSON, one after the other.
type Input struct {
	method  Method
	decoder *json.Decoder
	n       int
	// InTheOpen tells that others can see the text, as they do an argument of a program: no secret may be in it.
	InTheOpen bool
}

// InputError says that what was given is no request.
type InputError struct{ err error }

func (e *InputError) Error() string { return e.err.Error() }
func (e *InputError) Unwrap() error { return e.err }

// NewInput reads messages of the method from r as they are asked for.
func NewInput(m Method, r io.Reader) *Input { return &Input{method: m, decoder: json.NewDecoder(r)} }

// Next returns the next message, and io.EOF after the last one.
func (i *Input) Next() (*Message, error) {
	var raw json.RawMessage
	if err := i.decoder.Decode(&raw); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, i.wrong(fmt.Errorf("not JSON: %w", err))
	}
	i.n++
	message := dynamicpb.NewMessage(i.method.Descriptor.Input())
	if err := (protojson.UnmarshalOptions{Resolver: i.method.Types}).Unmarshal(raw, message); err != nil {
		// protojson puts one of two kinds of space behind its name, so that nobody compares its texts.
		text := strings.TrimLeft(strings.TrimPrefix(err.Error(), "proto:"), " \u00a0")
		return nil, i.wrong(errors.New(strings.ReplaceAll(text, "\u00a0", " ")))
	}
	if i.InTheOpen {
		if name := secret.Find(message); name != "" {
			return nil, &InputError{fmt.Errorf("%s is a secret, and others on this machine see the arguments of a program: hand the request in by a file, or by standard input", name)}
		}
	}
	return message, nil
}

// Only returns the one message of a method that takes one, an empty one if none was given.
func (i *Input) Only() (*Message, error) {
	message, err := i.Next()
	if errors.Is(err, io.EOF) {
		return dynamicpb.NewMessage(i.method.Descriptor.Input()), nil
	}
	if err != nil {
		return nil, err
	}
	if _, err := i.Next(); err == nil {
		return nil, &InputError{fmt.Errorf("%s takes one request, and there are more", i.method.Short())}
	} else if !errors.Is(err, io.EOF) {
		return nil, err
	}
	return message, nil
}

func (i *Input) wrong(err error) error {
	where := ""
	if i.method.Descriptor.IsStreamingClient() {
		where = fmt.Sprintf(" %d", max(i.n, 1))
	}
	input := i.method.Descriptor.Input()
	return &InputError{fmt.Errorf("request%s: %w; %s has %s", where, err, input.FullName(), fields(input))}
}

// fields names the fields of a message for people.
func fields(d protoreflect.MessageDescriptor) string {
	var names []string
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		kind := f.Kind().String()
		if f.Message() != nil {
			kind = string(f.Message().Name())
		} else if f.Enum() != nil {
			kind = string(f.Enum().Name())
		}
		if f.IsList() {
			kind = "list of " + kind
		}
		names = append(names, fmt.Sprintf("%s (%s)", f.Name(), kind))
	}
	if len(names) == 0 {
		return "no fields"
	}
	return "the fields " + strings.Join(names, ", ")
}
