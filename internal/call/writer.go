package call

import (
	"bytes"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

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
