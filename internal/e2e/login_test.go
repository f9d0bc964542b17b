//go:build unix

package e2e_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

// TestAUserOrdersThroughGrpcurlAndBob is what somebody types: nothing of ours is on the client's side.
func TestAUserOrdersThroughGrpcurlAndBob(t *testing.T) {
	t.Parallel()
	running := sharedMesh(t)
	alice := running.caller(t, "alice")
	paying, receiving := purse(t, alice, running.sampleUser(t, "dave"))
	others, _ := openAccounts(t, alice.ledger(t), "")
	dave, bob := running.sampleUser(t, "dave"), newGrpcurl(t, running, "bob")
	login := func() *tokensv1.TokenPair {
		var answer struct {
			Tokens struct{ AccessToken, RefreshToken, Username string }
		}
		await(t, "dave is logged in", func() error {
			out := bob.call("", fmt.Sprintf(`{"username": %q, "password": %q}`, dave.Username, dave.Password), "tokens.v1.TokensService/Login")
			if strings.Contains(out, "Code: ResourceExhausted") || strings.Contains(out, "Code: Unavailable") {
				return fmt.Errorf("grpcurl says: %s", out)
			}
			unmarshal(t, out, &answer)
			return nil
		})
		pair := &tokensv1.TokenPair{AccessToken: answer.Tokens.AccessToken, RefreshToken: answer.Tokens.RefreshToken}
		keepTokens(pair)
		return pair
	}
	pair := login()
	buy := fmt.Sprintf(`{"item": "a lamp", "price": {"currency": "EUR", "minor_units": 1250}, "paying_account": %q, "receiving_account": %q}`, paying, receiving)

	var self struct {
		User                             struct{ Username string }
		Roles                            []string
		Workload, LoggedInThrough        string
		WorkloadRoles                    []string
		AuthTime, TokenExpires, Username string
	}
	unmarshal(t, bob.call(pair.GetAccessToken(), "{}", "users.v1.UsersService/GetSelf"), &self)
	bobsID := operator(t, running.file, "bob").ID
	if self.User.Username != "dave" || self.Workload != bobsID || self.LoggedInThrough != bobsID || self.AuthTime == "" || self.TokenExpires == "" {
		t.Errorf("GetSelf: %+v, want dave through %s", self, bobsID)
	}
	var placed struct {
		Order struct{ Username, State string }
	}
	unmarshal(t, bob.call(pair.GetAccessToken(), withRequestID(buy), "orders.v1.OrdersService/PlaceOrder"), &placed)
	if want := (struct{ Username, State string }{"dave", "STATE_PAID"}); placed.Order != want {
		t.Errorf("PlaceOrder: %+v, want %+v", placed.Order, want)
	}
	// The two sides of a refusal that grpcurl shows.
	for _, test := range []struct{ name, token, request, method, code, reason string }{
		{"PlaceOrder without a token", "", withRequestID(buy), "orders.v1.OrdersService/PlaceOrder", "Unauthenticated", "USER_REQUIRED"},
		{"GetSelf without a token", "", "{}", "users.v1.UsersService/GetSelf", "Unauthenticated", "USER_REQUIRED"},
		{"a token that was changed", changed(pair.GetAccessToken()), "{}", "users.v1.UsersService/GetSelf", "Unauthenticated", "USER_TOKEN_INVALID"},
		{"a refresh token as access token", pair.GetRefreshToken(), "{}", "users.v1.UsersService/GetSelf", "Unauthenticated", "USER_TOKEN_INVALID"},
		{"an account of somebody else", pair.GetAccessToken(), withRequestID(strings.Replace(buy, paying, others, 1)), "orders.v1.OrdersService/PlaceOrder", "", "STATE_FAILED"},
		{"a wrong password", "", `{"username": "dave", "password": "not this one"}`, "tokens.v1.TokensService/Login", "Unauthenticated", "LOGIN_REFUSED"},
		{"a user who does not exist", "", `{"username": "nobody", "password": "not this one"}`, "tokens.v1.TokensService/Login", "Unauthenticated", "LOGIN_REFUSED"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out string
			await(t, "the answer", func() error {
				if out = bob.call(test.token, test.request, test.method); strings.Contains(out, "Code: ResourceExhausted") {
					return fmt.Errorf("grpcurl says: %s", out) // passwords are hashed a few at a time
				}
				return nil
			})
			if test.code != "" && !strings.Contains(out, "Code: "+test.code) || !strings.Contains(out, test.reason) {
				t.Errorf("grpcurl says nothing of %s %s:\n%s", test.code, test.reason, out)
			}
			if strings.Contains(out, dave.Password) || test.token != "" && strings.Contains(out, test.token) {
				t.Error("the refusal holds a secret")
			}
		})
	}
	t.Run("without the role of the user", func(t *testing.T) {
		narrowed := running.caller(t, "bob").login(t, running.sampleUser(t, "erin"), "orders.reader")
		out := bob.call(narrowed.GetAccessToken(), withRequestID(buy), "orders.v1.OrdersService/PlaceOrder")
		var info struct {
			Reason   string
			Metadata map[string]string
		}
		if start, end := strings.Index(out, "{"), strings.LastIndex(out, "}"); start < 0 || json.Unmarshal([]byte(out[start:end+1]), &info) != nil {
			t.Fatalf("no detail: %s", out)
		}
		want := map[string]string{"method": "/orders.v1.OrdersService/PlaceOrder", "role": "orders.customer"}
		if diff := cmp.Diff(want, info.Metadata); info.Reason != "USER_ROLE_REQUIRED" || diff != "" {
			t.Errorf("%s (-want +got):\n%s", info.Reason, diff)
		}
	})
	t.Run("Revoke ends the session in every service within a second", func(t *testing.T) {
		var ended *tokensv1.TokenPair
		endsWithinASecond(t, "Revoke", func() (map[string]func() error, func() error) {
			pair := login()
			ended = pair
			return running.caller(t, "bob").behalf(t, paying, pair.GetAccessToken()), func() error {
				out := bob.call("", fmt.Sprintf(`{"refresh_token": %q}`, pair.GetRefreshToken()), "tokens.v1.TokensService/Revoke")
				if strings.TrimSpace(out) != "{}" {
					return fmt.Errorf("grpcurl says: %s", out)
				}
				return nil
			}
		})
		if out := bob.call("", fmt.Sprintf(`{"refresh_token": %q}`, ended.GetRefreshToken()), "tokens.v1.TokensService/Refresh"); !strings.Contains(out, "SESSION_ENDED") {
			t.Errorf("the refresh token is still good: %s", out)
		}
	})
}

// changed returns a token with another signature.
func changed(token string) string {
	dot := strings.LastIndexByte(token, '.')
	other := byte('A')
	if token[dot+1] == other {
		other = 'B'
	}
	return token[:dot+1] + string(other) + token[dot+2:]
}
