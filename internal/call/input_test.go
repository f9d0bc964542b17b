package call_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/dynamicpb"

	"example.com/rolecall/internal/call"
)

// buy is a method of a service that is known from its file alone.
func buy(t *testing.T) call.Method {
	t.Helper()
	files := shopFiles(t)
	return shopService(t, files, "Buy")
}

func TestRequestsAreReadOneAfterTheOther(t *testing.T) {
	t.Parallel()
	m := buy(t)
	in := call.NewInput(m, strings.NewReader(`{"request_id": "a"} {"requestId": "b"}`+"\n\n"+`{"item": {"name": "c"}}`))
	var got []string
	for {
		message, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := call.Writer{Types: m.Types, Lines: true}.Write(message)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, text)
	}
	want := `{"request_id":"a","card":"","items":[],"stock":{}}` + "\n" + `{"request_id":"b","card":"","items":[],"stock":{}}` + "\n" + `{"request_id":"","card":"","items":[],"item":{"name":"c","secret":""},"stock":{}}` + "\n"
	if strings.Join(got, "") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWhatIsNoRequestIsRefusedWithTheFieldsThatThereAre(t *testing.T) {
	t.Parallel()
	m := buy(t)
	for name, text := range map[string]string{
		"an unknown field": `{"crad": ""}`, "a field twice": `{"card": "a", "card": "b"}`, "another type": `{"card": 5}`, "a list": `[]`, "half of it": `{"card"`, "words": `card`,
		"a type that nobody has": `{"more": {"@type": "type.googleapis.com/no.Body"}}`,
	} {
		_, err := call.NewInput(m, strings.NewReader(text)).Only()
		var wrong *call.InputError
		if !errors.As(err, &wrong) || !strings.Contains(err.Error(), "shop.v1.BuyRequest has the fields request_id (string), card (string), items (list of Item)") || strings.Contains(err.Error(), "\u00a0") {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if _, err := call.NewInput(m, strings.NewReader("{} {}")).Only(); err == nil || !strings.Contains(err.Error(), "takes one request") {
		t.Errorf("two requests: got %v", err)
	}
	if message, err := call.NewInput(m, strings.NewReader(" \n")).Only(); err != nil || message == nil {
		t.Errorf("none: got %v, %v, want an empty request", message, err)
	}
}

func TestASecretIsNotTakenFromTheArgumentsOfAProgram(t *testing.T) {
	t.Parallel()
	m := buy(t)
	for text, refused := range map[string]bool{
		`{"card": "x"}`: true, `{"item": {"secret": "x"}}`: true, `{"items": [{}, {"secret": "x"}]}`: true, `{"stock": {"a": {}, "b": {"secret": "x"}}}`: true, `{"request_id": "x", "items": [{"name": "y"}]}`: false,
	} {
		in := call.NewInput(m, strings.NewReader(text))
		in.InTheOpen = true
		_, err := in.Only()
		if (err != nil) != refused || err != nil && strings.Contains(err.Error(), "x ") {
			t.Errorf("%s: got %v, refused should be %v", text, err, refused)
		}
		if _, err := call.NewInput(m, strings.NewReader(text)).Only(); err != nil {
			t.Errorf("%s out of a file: %v", text, err)
		}
	}
}

func TestARequestIDIsMadeUpOnlyWhereOneIsNeededAndMissing(t *testing.T) {
	t.Parallel()
	m := buy(t)
	message := dynamicpb.NewMessage(m.Descriptor.Input())
	id, made := call.FillRequestID(m, message)
	if parsed, err := uuid.Parse(id); err != nil || parsed.Version() != 4 || !made {
		t.Errorf("got %q, made %v", id, made)
	}
	if again, made := call.FillRequestID(m, message); again != id || made {
		t.Errorf("again: got %q, made %v, want %q", again, made, id)
	}
	look := shopService(t, shopFiles(t), "Look")
	if id, made := call.FillRequestID(look, dynamicpb.NewMessage(look.Descriptor.Input())); id != "" || made {
		t.Errorf("a method without exactly_once: got %q, %v", id, made)
	}
}
