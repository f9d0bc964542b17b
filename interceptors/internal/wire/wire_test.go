package wire_test

import (
	"testing"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"example.com/rolecall/interceptors/internal/wire"
)

func TestTheCodecKeepsTheBytesAndIsThatOfProtobufForTheRest(t *testing.T) {
	t.Parallel()
	codec := wire.Codec()
	if codec.Name() != "proto" {
		t.Errorf("the codec is called %q", codec.Name())
	}
	// The field twice, and one that is not known: no encoder writes this.
	odd := []byte("\x0a\x01a\x0a\x01b\x78\x01")
	whole, text := wrapperspb.String(""), &wrapperspb.StringValue{}
	captured := &wire.Captured{}
	pieces := mem.BufferSlice{mem.SliceBuffer(odd[:4]), mem.SliceBuffer(odd[4:])}
	if err := codec.Unmarshal(pieces, captured); err != nil {
		t.Fatal(err)
	}
	if err := wire.Decode(captured.Bytes, whole); err != nil {
		t.Fatal(err)
	}
	if string(captured.Bytes) != string(odd) || whole.GetValue() != "b" {
		t.Errorf("captured %x and %v, want %x and b", captured.Bytes, whole, odd)
	}
	for _, message := range []any{&wire.Raw{Bytes: odd}, whole} {
		data, err := codec.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		text.Reset()
		if err := codec.Unmarshal(data, text); err != nil || !proto.Equal(text, whole) {
			t.Errorf("%T: read back %v, %v, want %v", message, text, err, whole)
		}
	}
	if data, err := codec.Marshal(&wire.Raw{}); err != nil || data.Len() != 0 {
		t.Errorf("nothing is %d bytes, %v", data.Len(), err)
	}
	if _, err := codec.Marshal(captured); err == nil {
		t.Error("what was received was sent")
	}
	if err := wire.Decode([]byte{0xff}, text); err == nil {
		t.Error("bytes that are no message were decoded")
	}
}
