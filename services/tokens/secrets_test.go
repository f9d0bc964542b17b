package tokens_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/services/tokens"
)

// redacted returns the fields of a file that are marked debug_redact.
func redacted(file protoreflect.FileDescriptor) (fields []string) {
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		for j := range m.Fields().Len() {
			f := m.Fields().Get(j)
			if o, ok := f.Options().(*descriptorpb.FieldOptions); ok && o.GetDebugRedact() {
				fields = append(fields, string(f.FullName()))
			}
		}
	}
	return fields
}

func TestSecretsAppearInNoLogNoErrorAndNoMetric(t *testing.T) {
	t.Parallel()
	t.Logf("marked debug_redact: %v", append(redacted(tokensv1.File_tokens_v1_tokens_proto), redacted(usersv1.File_users_v1_users_proto)...))
	var panics atomic.Bool
	h := newHouse(t, "", func(c *tokens.Config) {
		now := c.Now
		c.Now = func() time.Time {
			if panics.Load() && strings.Contains(string(debug.Stack()), ").Login(") {
				panic("the clock is broken")
			}
			return now()
		}
	})
	var secrets, errors []string
	secret := func(s ...string) { secrets = append(secrets, s...) }
	failed := func(err error) {
		if err == nil {
			t.Error("a call that should be refused was answered")
			return
		}
		errors = append(errors, err.Error(), prototext.Format(status.Convert(err).Proto()))
	}
	keep := func(pair *tokensv1.TokenPair) *tokensv1.TokenPair {
		secret(pair.GetAccessToken(), pair.GetRefreshToken())
		raw, err := base64.RawURLEncoding.DecodeString(strings.TrimPrefix(pair.GetRefreshToken(), "rolecall_"))
		if err != nil {
			t.Fatalf("refresh token: %v", err)
		}
		sum := sha256.Sum256(raw)
		secret(string(raw), base64.RawURLEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(raw), fmt.Sprintf("%x", sum))
		return pair
	}
	login := func(username, password string) error {
		_, err := h.bob.Login(nodetest.Context(t), &tokensv1.LoginRequest{Username: username, Password: password})
		return err
	}
	secret(password, "wrong-password-1", "password-typed-as-username", "a-new-password", "$argon2id$")

	pair := keep(h.login(t))
	next := keep(h.mustRefresh(t, pair.GetRefreshToken()))
	h.waitSelf(t, next.GetAccessToken(), "")
	failed(login("dave", "wrong-password-1"))
	failed(login("password-typed-as-username", "wrong-password-1"))
	failed(login("dave", strings.Repeat("wrong-password-1", 100)))
	carol := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/carol", h.tokens))
	_, err := carol.Login(nodetest.Context(t), &tokensv1.LoginRequest{Username: "dave", Password: password})
	failed(err)
	shop := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/service/shop", h.tokens))
	_, err = shop.Refresh(nodetest.Context(t), &tokensv1.RefreshRequest{RefreshToken: next.GetRefreshToken()})
	failed(err)
	if _, err := h.alice.SetPassword(nodetest.Context(t), &usersv1.SetPasswordRequest{Username: "dave", Password: "a-new-password"}); err != nil {
		t.Fatal(err)
	}
	h.waitSelf(t, next.GetAccessToken(), "USER_TOKEN_REVOKED")
	_, err = h.whoAmI(t, next.GetAccessToken())
	failed(err)
	_, err = h.whoAmI(t, next.GetAccessToken()+"x")
	failed(err)
	h.clock.advance(time.Minute)
	_, err = h.refresh(t, pair.GetRefreshToken()) // stolen
	failed(err)
	panics.Store(true)
	if err := login("dave", "a-new-password"); status.Code(err) != codes.Internal {
		t.Errorf("a panic while a password is about: got %v, want Internal", err)
	} else {
		failed(err)
	}
	panics.Store(false)
	gone, cancel := context.WithCancel(nodetest.Context(t))
	cancel()
	_, err = h.bob.Refresh(gone, &tokensv1.RefreshRequest{RefreshToken: next.GetRefreshToken()})
	failed(err)

	metrics := h.metrics(t)
	for _, want := range []string{"the clock is broken", "used again", "LOGIN_REFUSED", "reason=SESSION_ENDED"} {
		wait(t, fmt.Sprintf("the log holds %q", want), func() bool { return strings.Contains(h.log.String(), want) })
	}
	for _, service := range []*nodetest.Service{h.tokens, h.users} { // which write the last records then
		if err := service.Stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	}
	for name, text := range map[string]string{
		"log and audit records": h.log.String(), "errors": strings.Join(errors, "\n"), "metrics": metrics,
	} {
		if len(text) == 0 {
			t.Errorf("there are no %s to look at", name)
		}
		for _, s := range secrets {
			if i := strings.Index(text, s); i >= 0 {
				t.Errorf("%s tell a secret: ...%s", name, text[max(0, i-200):min(len(text), i+len(s))])
			}
		}
	}
}

func TestFieldsWithSecretsAreMarked(t *testing.T) {
	t.Parallel()
	for _, m := range []proto.Message{
		&tokensv1.LoginRequest{Password: "secret"}, &tokensv1.RefreshRequest{RefreshToken: "secret"}, &tokensv1.RevokeRequest{RefreshToken: "secret"},
		&tokensv1.TokenPair{AccessToken: "secret"}, &tokensv1.TokenPair{RefreshToken: "secret"},
		&usersv1.CreateRequest{Password: "secret"}, &usersv1.SetPasswordRequest{Password: "secret"}, &usersv1.VerifyPasswordRequest{Password: "secret"},
	} {
		marked := redacted(m.ProtoReflect().Descriptor().ParentFile())
		m.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
			for _, name := range marked {
				if name == string(f.FullName()) {
					return true
				}
			}
			t.Errorf("%s is not marked debug_redact", f.FullName())
			return true
		})
	}
}
