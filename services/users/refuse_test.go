package users_test

import (
	"strings"
	"testing"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/services/users"
)

// The caller gets one answer, the operator's record says which of the reasons it was.
func TestTheAuditRecordTellsTheReasonsOfARefusedLoginApart(t *testing.T) {
	t.Parallel()
	audit := &nodetest.Audit{}
	d := newDesk(t, "", users.Config{Cost: cheap}, audit.Keep)
	d.create(t, "none", "")
	d.create(t, "gone", password)
	if _, err := d.alice.Disable(nodetest.Context(t), &usersv1.DisableRequest{Username: "gone"}); err != nil {
		t.Fatal(err)
	}
	const typed = "hunter2 by mistake" // somebody types the password where the name belongs
	for name, tc := range map[string]struct{ username, password, want string }{
		"a wrong password":        {"dave", "wrong password", "user dave: the password is wrong"},
		"an unknown user":         {"nobody", password, "there is no such user"},
		"a password for a name":   {typed, password, "there is no such user"},
		"a disabled user":         {"gone", password, "user gone: the user is disabled"},
		"a user without password": {"none", password, "user none: the user has no password"},
	} {
		if _, err := d.verify(t, tc.username, tc.password); reason(err) != "LOGIN_REFUSED" {
			t.Errorf("%s: got %v, want LOGIN_REFUSED", name, err)
		}
		record := audit.Wait(t, name, func(r map[string]any) bool { return r["reason"] == "LOGIN_REFUSED" && r["detail"] == tc.want })
		if record["verdict"] != "denied" || record["workload"] != "spiffe://mesh.local/service/tokens" || record["method"] != "/users.v1.UsersService/VerifyPassword" {
			t.Errorf("%s: record %v", name, record)
		}
	}
	for range 10 {
		_, _ = d.verify(t, "nobody", password)
	}
	audit.Wait(t, "too many attempts", func(r map[string]any) bool { return r["reason"] == "RATE_LIMITED" })
	for _, secret := range []string{"nobody", typed, password, "wrong password\"", "argon2"} {
		if strings.Contains(audit.Text(), secret) {
			t.Errorf("%q is in the audit records", secret)
		}
	}
}
