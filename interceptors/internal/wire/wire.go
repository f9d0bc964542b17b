// Package wire keeps the exact bytes of messages, where a signature is about them: a message that is decoded and encoded
// again may come out otherwise, for instance when it has fields that this side does not know.
package wire

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // registers the codec that is wrapped
	"google.golang.org/grpc/mem"
)

// Captured takes the bytes of a message as they came. Decode decodes them later.
type Captured struct{ Bytes []byte }

// Raw is a message that is encoded already.
type Raw struct{ Bytes []byte }

// Codec is gRPC's own for Protobuf, which also takes Captured and Raw. For all other messages it adds nothing.
func Codec() encoding.CodecV2 { return codec{encoding.GetCodecV2("proto")} }

type codec struct{ encoding.CodecV2 }

// Marshal implements encoding.CodecV2.
func (c codec) Marshal(message any) (mem.BufferSlice, error) {
	switch m := message.(type) {
	case *Raw:
		return mem.BufferSlice{mem.SliceBuffer(m.Bytes)}, nil
	case *Captured:
		return nil, fmt.Errorf("marshal %T: it is for decoding", m)
	}
	return c.CodecV2.Marshal(message)
}

// Unmarshal implements encoding.CodecV2.
func (c codec) Unmarshal(data mem.BufferSlice, message any) error {
	if m, ok := message.(*Captured); ok {
		m.Bytes = data.Materialize()
		return nil
	}
	return c.CodecV2.Unmarshal(data, message)
}

// Decode decodes bytes that were captured, into whatever the codec takes.
func Decode(bytes []byte, message any) error {
	return Codec().Unmarshal(mem.BufferSlice{mem.SliceBuffer(bytes)}, message)
}
