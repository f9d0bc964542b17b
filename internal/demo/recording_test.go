package demo

import (
	"bytes"
	"context"
	"testing"

	"google.golang.org/protobuf/proto"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

func TestARecordingIsSearchedForAllThatTheRequestSays(t *testing.T) {
	t.Parallel()
	pay := &ledgerv1.TransferRequest{FromAccount: "account-1", ToAccount: "account-2", Amount: price(), Note: "rent", RequestId: "7b1c"}
	body, err := proto.Marshal(pay)
	if err != nil {
		t.Fatal(err)
	}
	noise := bytes.Repeat([]byte{0x17, 0x03, 0x03, 0x00, 0xa0, 0xff, 0xfe}, 100)
	for name, test := range map[string]struct {
		recording *tap
		request   *ledgerv1.TransferRequest
		want      string
	}{
		"noise":                        {&tap{sent: noise, received: noise}, pay, nothingToRead.code},
		"the request in the clear":     {&tap{sent: body}, pay, "plaintext"},
		"only the note, in the answer": {&tap{sent: noise, received: []byte("...rent...")}, pay, "plaintext"},
		"a request that says nothing":  {&tap{sent: noise, received: noise}, &ledgerv1.TransferRequest{}, "a search that finds nothing"},
		"nothing at all":               {&tap{}, pay, "nothing was recorded"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := reads(test.recording, test.request); got.code != test.want {
				t.Errorf("got %+v, want %q", got, test.want)
			}
		})
	}
}

func TestTheDumpBeginsWithTheLastRecordThatIsARequest(t *testing.T) {
	t.Parallel()
	record := func(kind byte, n int) []byte {
		return append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, bytes.Repeat([]byte{kind}, n)...)
	}
	sent := bytes.Join([][]byte{record(0x16, 1700), record(0x17, 900), record(0x17, 30), record(0x17, 40000)[:200]}, nil)
	if got, want := beginning(sent), record(0x17, 900)[:64]; !bytes.Equal(got, want) {
		t.Errorf("got % x, want % x", got, want)
	}
	if got := beginning(nil); len(got) != 0 {
		t.Errorf("of nothing: % x", got)
	}
}

func TestRepeatedAttemptsMustAllComeOutTheSame(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ odd, want outcome }{
		"all the same":                {proofReplayed, proofReplayed},
		"one succeeds":                {ok, outcome{code: "another answer"}},
		"one for another reason":      {proofExpired, outcome{code: "another answer"}},
		"one with no connection left": {outcome{code: noConnection}, outcome{code: "another answer"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := 0
			got := repeated(func(context.Context) outcome {
				if n++; n == repeats {
					return test.odd
				}
				return proofReplayed
			})(t.Context())
			if got.code != test.want.code || got.reason != test.want.reason {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
