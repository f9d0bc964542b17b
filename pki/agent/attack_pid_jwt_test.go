//go:build linux || darwin

package agent

import (
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// The process that asked ends while its token is signed: whoever has its pid, or its connection, by then gets none.
func TestAttackAPIDThatIsReusedBetweenAttestationAndTheAnswerOfAJWT(t *testing.T) {
	t.Parallel()
	j := newTestJWT(t, "first")
	a := startAgent(t, func(c *Config, _ *testSigner) { c.JWT = j })
	client, other := passedOn(t, a)
	a.registerProcess(t, "/service/ledger", other.Process.Pid)
	request := &workload.JWTSVIDRequest{Audience: []string{"orders"}}
	if _, err := client.FetchJWTSVID(withHeader(within(t)), request); err != nil {
		t.Fatalf("while the process that connected lives: %v", err)
	}
	j.hook = other.end
	request.Audience[0] = "billing" // not kept
	response, err := client.FetchJWTSVID(withHeader(within(t)), request)
	if status.Code(err) != codes.PermissionDenied || len(response.GetSvids()) > 0 {
		t.Errorf("the process ended meanwhile, and %d tokens came back (%v); want PermissionDenied", len(response.GetSvids()), err)
	}
	if got := j.signed(); got != 2 {
		t.Errorf("%d tokens were signed: the second request did not come as far as the attack needs", got)
	}
}
