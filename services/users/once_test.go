package users_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/services/users"
)

func TestARepeatedCreateIsAnsweredTheSame(t *testing.T) {
	each(t, func(t *testing.T, alice usersv1.UsersServiceClient) {
		ctx := nodetest.Context(t)
		req := &usersv1.CreateRequest{User: &usersv1.User{Username: "dave", Email: "dave@example.com"}, RequestId: uuid.NewString()}
		first, err := alice.Create(ctx, req)
		if err != nil {
			t.Fatalf("create: %v", err)
		}
		if _, err := alice.Disable(ctx, &usersv1.DisableRequest{Username: "dave"}); err != nil {
			t.Fatal(err)
		}
		second, err := alice.Create(ctx, req)
		if err != nil {
			t.Fatalf("the same again: %v", err)
		}
		if diff := cmp.Diff(first, second, protocmp.Transform()); diff != "" {
			t.Errorf("the repetition is answered otherwise (-first +second):\n%s", diff)
		}
		other := &usersv1.CreateRequest{User: &usersv1.User{Username: "erin"}, RequestId: req.GetRequestId()}
		if _, err := alice.Create(ctx, other); reason(err) != "REQUEST_ID_REUSED" {
			t.Errorf("another user with the same request_id: got %v, want REQUEST_ID_REUSED", err)
		}
		req.RequestId = uuid.NewString()
		for range 2 {
			if _, err := alice.Create(ctx, req); status.Code(err) != codes.AlreadyExists {
				t.Errorf("with another request_id: got %v, want AlreadyExists", err)
			}
		}
	})
}

func TestARepeatedUpdateChangesNothingMore(t *testing.T) {
	each(t, func(t *testing.T, alice usersv1.UsersServiceClient) {
		ctx := nodetest.Context(t)
		if _, err := alice.Create(ctx, &usersv1.CreateRequest{User: &usersv1.User{Username: "dave"}}); err != nil {
			t.Fatal(err)
		}
		update := func(name, id string) *usersv1.UpdateResponse {
			answer, err := alice.Update(ctx, &usersv1.UpdateRequest{
				User:       &usersv1.User{Username: "dave", DisplayName: name},
				UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"display_name"}},
				RequestId:  id,
			})
			if err != nil {
				t.Fatalf("update to %s: %v", name, err)
			}
			return answer
		}
		id := uuid.NewString()
		first := update("Dave", id)
		update("David", uuid.NewString())
		if diff := cmp.Diff(first, update("Dave", id), protocmp.Transform()); diff != "" {
			t.Errorf("the repetition is answered otherwise (-first +second):\n%s", diff)
		}
		got, err := alice.Get(ctx, &usersv1.GetRequest{Username: "dave"})
		if err != nil || got.GetUser().GetDisplayName() != "David" {
			t.Errorf("after a late repetition: %v, %v, want the later name", got, err)
		}
	})
}

func TestRepetitionsInParallelMakeOneUserWithOneHash(t *testing.T) {
	t.Parallel()
	d := newDesk(t, "", users.Config{Cost: cheap})
	before := d.hashes(t)
	req := &usersv1.CreateRequest{User: &usersv1.User{Username: "erin"}, Password: password, RequestId: uuid.NewString()}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if _, err := d.alice.Create(nodetest.Context(t), req); err != nil && reason(err) != "REQUEST_IN_PROGRESS" {
				t.Errorf("create: %v", err)
			}
		})
	}
	wg.Wait()
	if _, err := d.alice.Create(nodetest.Context(t), req); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if subject, err := d.verify(t, "erin", password); err != nil || subject.GetUsername() != "erin" {
		t.Errorf("the password: %v, %v", subject, err)
	}
	t.Logf("%d hash runs for 11 requests and a login", d.hashes(t)-before)
	before = d.hashes(t)
	if _, err := d.alice.Create(nodetest.Context(t), req); err != nil {
		t.Errorf("the same again: %v", err)
	}
	if runs := d.hashes(t) - before; runs != 0 {
		t.Errorf("a repetition that is answered from what is stored: %d hash runs, want 0", runs)
	}
}

// The transaction of a Create is not open while the password is hashed: SQLite has one writer.
func TestAChangeDoesNotWaitForTheHashOfAnother(t *testing.T) {
	t.Parallel()
	var held atomic.Bool
	begun, goOn := make(chan struct{}), make(chan struct{})
	d := newDesk(t, "", users.Config{Cost: cheap}.BeforeHash(func() {
		if held.CompareAndSwap(true, false) {
			close(begun)
			<-goOn
		}
	}))
	release := sync.OnceFunc(func() { close(goOn) })
	t.Cleanup(release)
	held.Store(true)
	created := make(chan error, 1)
	go func() {
		_, err := d.alice.Create(nodetest.Context(t), &usersv1.CreateRequest{User: &usersv1.User{Username: "erin"}, Password: password})
		created <- err
	}()
	select {
	case <-begun:
	case err := <-created:
		t.Fatalf("created without a hash: %v", err)
	}
	if _, err := d.alice.Disable(nodetest.Context(t), &usersv1.DisableRequest{Username: "dave"}); err != nil {
		t.Errorf("another change: %v", err)
	}
	release()
	if err := <-created; err != nil {
		t.Errorf("create: %v", err)
	}
}

// A password has no part in what tells two requests apart: a fast hash of it would lie in the database.
func TestNoPasswordIsInTheDatabase(t *testing.T) {
	t.Parallel()
	url := filepath.Join(t.TempDir(), "test.db")
	d := newDesk(t, url, users.Config{Cost: cheap})
	req := &usersv1.CreateRequest{
		User: &usersv1.User{Username: "erin", DisplayName: "a name to be found"}, Password: "nowhere to be found", RequestId: uuid.NewString(),
	}
	if _, err := d.alice.Create(nodetest.Context(t), req); err != nil {
		t.Fatalf("create: %v", err)
	}
	again := proto.CloneOf(req)
	again.Password = "another password"
	if _, err := d.alice.Create(nodetest.Context(t), again); err != nil {
		t.Errorf("the same with another password: %v, want what was answered", err)
	}
	if _, err := d.verify(t, "erin", req.GetPassword()); err != nil {
		t.Errorf("the first password: %v", err)
	}
	if _, err := d.verify(t, "erin", again.GetPassword()); reason(err) != "LOGIN_REFUSED" {
		t.Errorf("the second password: got %v, want LOGIN_REFUSED", err)
	}

	var stored []byte
	for _, suffix := range []string{"", "-wal"} {
		data, err := os.ReadFile(url + suffix)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, data...)
	}
	if !bytes.Contains(stored, []byte(req.GetRequestId())) && !bytes.Contains(stored, []byte("rolecall_requests")) || !bytes.Contains(stored, []byte(req.GetUser().GetDisplayName())) {
		t.Fatal("what ought to be in the database was not found: the search is no good")
	}
	for _, message := range []*usersv1.CreateRequest{req, again} {
		whole, err := proto.MarshalOptions{Deterministic: true}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		ofPassword, ofMessage := sha256.Sum256([]byte(message.GetPassword())), sha256.Sum256(whole)
		for what, secret := range map[string][]byte{
			"the password": []byte(message.GetPassword()), "its SHA-256": ofPassword[:], "the SHA-256 of the request": ofMessage[:],
		} {
			for form, text := range map[string]string{
				"": string(secret), "in hex ": hex.EncodeToString(secret),
				"in base64 ": strings.TrimRight(base64.StdEncoding.EncodeToString(secret), "="), "in base64url ": base64.RawURLEncoding.EncodeToString(secret),
			} {
				if bytes.Contains(stored, []byte(text)) {
					t.Errorf("%s%s is in the database", form, what)
				}
			}
		}
	}
}
