package call

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/google/uuid"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"
)

// Message is a request or a response.
type Message = dynamicpb.Message

// requestID is the field of methods with exactly_once (AIP-155).
const requestID = "request_id"

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
		if secret := secretIn(message); secret != "" {
			return nil, &InputError{fmt.Errorf("%s is a secret, and others on this machine see the arguments of a program: hand the request in by a file, or by standard input", secret)}
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

// FillRequestID gives a request of a method with exactly_once a request_id, if it has none. It returns the one that it has,
// empty for other methods, and whether it was made up.
func FillRequestID(m Method, message *Message) (id string, made bool) {
	f := m.Descriptor.Input().Fields().ByName(requestID)
	if !m.Requires.ExactlyOnce || f == nil || f.Kind() != protoreflect.StringKind || f.IsList() {
		return "", false
	}
	if made = message.Get(f).String() == ""; made {
		message.Set(f, protoreflect.ValueOfString(uuid.NewString()))
	}
	return message.Get(f).String(), made
}

// secretIn returns the name of a field that is filled in and marked debug_redact.
func secretIn(m protoreflect.Message) (found string) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		options, _ := f.Options().(*descriptorpb.FieldOptions)
		switch {
		case options.GetDebugRedact():
			found = string(f.Name())
		case f.IsMap():
		case f.IsList() && f.Message() != nil:
			for i := 0; i < v.List().Len() && found == ""; i++ {
				found = secretIn(v.List().Get(i).Message())
			}
		case f.Message() != nil:
			found = secretIn(v.Message())
		}
		return found == ""
	})
	return found
}

// Writer writes messages in JSON, with the names of their .proto files: indented for people, or one on each line.
type Writer struct {
	Types Types
	Lines bool
}

// Write returns the text of a message, which ends with a line end.
func (w Writer) Write(message proto.Message) (string, error) {
	data, err := protojson.MarshalOptions{Resolver: w.Types, EmitDefaultValues: true, UseProtoNames: true}.Marshal(message)
	if err != nil {
		return "", fmt.Errorf("write the answer: %w", err)
	}
	// protojson varies its white space on purpose.
	var text bytes.Buffer
	if w.Lines {
		err = json.Compact(&text, data)
	} else {
		err = json.Indent(&text, data, "", "  ")
	}
	if err != nil {
		return "", fmt.Errorf("write the answer: %w", err)
	}
	return text.String() + "\n", nil
}
