package exactlyonce_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/dynamicpb"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
)

func TestARepetitionGetsTheResponseByteForByteAndTakesNoEffect(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		id := newID()
		first := ok(t, do(t.Context(), k.start(t, nil), call(id), bump))
		for range 3 {
			if again := do(t.Context(), k.start(t, nil), call(id), bump); again != first {
				t.Errorf("got %+v, want %+v", again, first)
			}
		}
		k.check(t, 1, 1, 0)
	})
}

func TestTheSameRequestID(t *testing.T) {
	t.Parallel()
	another := func(change func(*feature.OnceCall)) []func(*feature.OnceCall) {
		return []func(*feature.OnceCall){change}
	}
	for name, test := range map[string]struct {
		change []func(*feature.OnceCall)
		after  time.Duration
		want   string
	}{
		"with another payload": {want: "refused", change: another(func(c *feature.OnceCall) {
			c.Message.(*ledgerv1.TransferRequest).Amount.MinorUnits = 2
		})},
		"with a field that the server does not know": {want: "refused", change: another(func(c *feature.OnceCall) {
			c.Message.ProtoReflect().SetUnknown([]byte{0xf8, 0x7f, 0x01})
		})},
		"by another caller": {want: "new", change: another(func(c *feature.OnceCall) { c.Peer = billing })},
		"by another signer": {want: "new", change: another(func(c *feature.OnceCall) { c.Signer = billing })},
		"for another user":  {want: "new", change: another(func(c *feature.OnceCall) { c.User = "user:erin" })},
		"for no user":       {want: "new", change: another(func(c *feature.OnceCall) { c.User = "" })},
		"on another method": {want: "new", change: another(func(c *feature.OnceCall) { c.Method = open })},
		"by the user of the signer's name, and no signer": {want: "new", change: another(func(c *feature.OnceCall) {
			c.Signer, c.User = "user:dave", ""
		})},
		"after expiry":           {want: "new", after: exactlyonce.DefaultKeep},
		"a minute before expiry": {want: "stored", after: exactlyonce.DefaultKeep - time.Minute},
		"in capital letters": {want: "stored", change: another(func(c *feature.OnceCall) {
			m := c.Message.(*ledgerv1.TransferRequest)
			m.RequestId = strings.ToUpper(m.GetRequestId())
		})},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			each(t, func(t *testing.T, k *kit) {
				r, id := k.start(t, nil), newID()
				first := ok(t, do(t.Context(), r, call(id), bump))
				k.pruneAfter(t, r, test.after)
				second := do(t.Context(), r, call(id, test.change...), bump)
				got := "new"
				switch {
				case second == result{Verdict: feature.Reused}:
					got = "refused"
				case second == first:
					got = "stored"
				}
				if got != test.want {
					t.Errorf("got %s (%+v), want %s", got, second, test.want)
				}
				if want := map[string]int{"new": 2}[test.want]; k.effects(t) != max(1, want) {
					t.Errorf("%d effects", k.effects(t))
				}
			})
		})
	}
}

func TestRequestIDsAreUUIDsOf36Characters(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf6":   "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
		"F81D4FAE-7DEC-41D0-A765-00A0C91E6BF6":   "f81d4fae-7dec-41d0-a765-00a0c91e6bf6",
		"":                                       "",
		"00000000-0000-0000-0000-000000000000":   "",
		"f81d4fae7dec11d0a76500a0c91e6bf6":       "",
		"{f81d4fae-7dec-11d0-a765-00a0c91e6bf6}": "",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf":    "",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bfg":   "",
		"f81d4fae-7dec-11d0-a765000a0c91e6bf6":   "",
		"f81d4fae-7dec-11d0-a765-00a0c91e6bf6 ":  "",
	} {
		if got, ok := exactlyonce.RequestID(text); ok != (want != "") || ok && got != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, ok, want)
		}
	}
}

func TestARequestWithoutARequestIDIsRefused(t *testing.T) {
	t.Parallel()
	r := exactlyonce.New(exactlyonce.Config{DB: exactlyonce.SQLite(nil)})
	for name, c := range map[string]*feature.OnceCall{
		"empty":          call(""),
		"no UUID":        call("1"),
		"without field":  call("", func(c *feature.OnceCall) { c.Message = &ledgerv1.Money{} }),
		"without a body": call("", func(c *feature.OnceCall) { c.Message = nil }),
	} {
		if got, want := do(t.Context(), r, c, bump), (result{Verdict: feature.NoRequestID}); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

// upgraded makes a message type with the fields.
func upgraded(t *testing.T, fields map[string]int32) protoreflect.MessageDescriptor {
	t.Helper()
	m := &descriptorpb.DescriptorProto{Name: proto.String("Pay")}
	for name, number := range fields {
		m.Field = append(m.Field, &descriptorpb.FieldDescriptorProto{
			Name: &name, Number: &number, Type: descriptorpb.FieldDescriptorProto_TYPE_STRING.Enum(), Label: descriptorpb.FieldDescriptorProto_LABEL_OPTIONAL.Enum(),
		})
	}
	file, err := protodesc.NewFile(&descriptorpb.FileDescriptorProto{
		Name: proto.String("pay.proto"), Syntax: proto.String("proto3"), MessageType: []*descriptorpb.DescriptorProto{m},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return file.Messages().Get(0)
}

func TestARepetitionIsKnownOnceTheServerHasLearnedAFieldOfIt(t *testing.T) {
	t.Parallel()
	older := upgraded(t, map[string]int32{"a": 1, "c": 3, "request_id": 4})
	newer := upgraded(t, map[string]int32{"a": 1, "b": 2, "c": 3, "request_id": 4})
	sent := dynamicpb.NewMessage(newer)
	for _, name := range []protoreflect.Name{"a", "b", "c", "request_id"} {
		sent.Set(newer.Fields().ByName(name), protoreflect.ValueOfString("x"))
	}
	text, err := proto.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	var sums [2][32]byte
	for i, d := range []protoreflect.MessageDescriptor{older, newer} {
		got := dynamicpb.NewMessage(d)
		if err := proto.Unmarshal(text, got); err != nil {
			t.Fatal(err)
		}
		sums[i] = exactlyonce.Payload(t, got)
	}
	if sums[0] != sums[1] {
		t.Errorf("before the upgrade %x, after it %x", sums[0][:4], sums[1][:4])
	}
}

func TestAPasswordIsNoPartOfWhatIsStored(t *testing.T) {
	t.Parallel()
	id := newID()
	sum := func(password, name string) [32]byte {
		return exactlyonce.Payload(t, &usersv1.CreateRequest{User: &usersv1.User{Username: name}, Password: password, RequestId: id})
	}
	if sum("correct horse", "dave") != sum("battery staple", "dave") {
		t.Error("the payload of two passwords differs: a hash of the password is stored")
	}
	if sum("correct horse", "dave") == sum("correct horse", "erin") {
		t.Error("the payload of two users is the same")
	}
}
