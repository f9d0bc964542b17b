package repo_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"strconv"
	"strings"
	"testing"
)

// requiredAttack is an attack on the certificate authority, the Workload API or the replacement of a root that must have a
// test: a function, or a row of its table. The attacks on a call are listed in interceptors/attacks_required_test.go.
type requiredAttack struct {
	name string
	in   string // folder and function of the test
	as   string // the row there; empty: the whole function
}

const (
	csrGate      = "pki TestAttacksOnTheCSRGate"
	csrAtService = "services/authority TestAttacksInACSR"
	constraint   = "pki TestTheNameConstraintTable"
	keyFile      = "pki TestAttacksOnAKeyFile"
	document     = "pki TestAttacksOnABundleDocument"
	importing    = "pki TestAttacksOnTheImportOfAnIssuer"
	workloadAPI  = "pki/agent TestAttacksOnTheWorkloadAPI"
	clocks       = "pki TestAttacksOnTheClock"
	retirement   = "internal/rootrotation TestWhoStandsInTheWayOfARetirement"
)

var requiredAttacks = []requiredAttack{
	{"CSR with a bad self-signature", csrGate, "bad self-signature"},
	{"CSR with a bad self-signature, at the service", csrAtService, "a bad self-signature"},
	{"CSR with a key of RSA 1024 bits", csrGate, "RSA 1024"},
	{"CSR with a key of RSA 1024 bits, at the service", csrAtService, "RSA 1024"},
	{"CSR with a key on P-224", csrGate, "P-224"},
	{"CSR with a key on P-224, at the service", csrAtService, "P-224"},
	{"CSR with an extra extension (cA:TRUE)", csrGate, "an extra extension: cA:TRUE"},
	{"CSR with an extra extension (cA:TRUE), at the service", csrAtService, "an extra extension, cA:TRUE"},
	{"CSR with duplicate SANs", csrGate, "duplicate SANs"},
	{"CSR with duplicate SANs, at the service", csrAtService, "duplicate SANs"},
	{"CSR with a SAN of someone else", csrAtService, "a SAN of someone else beside the own"},
	{"CSR with a SAN of another trust domain", csrGate, "a SAN of someone else's trust domain"},
	{"CSR with a CN of someone else", csrGate, "a CN of someone else"},
	{"CSR with a CN of someone else, at the service", csrAtService, "a CN of someone else"},
	{"CSR of 1 MB", csrGate, "1 MB"},
	{"CSR of 1 MB, at the service", csrAtService, "1 MB"},
	{"CSR with 5,000 SANs", csrGate, "5,000 SANs"},
	{"CSR with 5,000 SANs, at the service", csrAtService, "5,000 SANs"},
	{"CSR with an embedded NUL", csrGate, "an embedded NUL"},
	{"CSR with an embedded NUL, at the service", csrAtService, "an embedded NUL in a DNS name"},
	{"CSR with an IPv6 zone", csrGate, "an IPv6 zone"},
	{"CSR with an IPv6 zone, at the service", csrAtService, "an IPv6 zone"},
	{"CSR that the root is to sign as an issuer's", "pki TestAttacksOnTheOfflineSigner", "an extra extension (cA:TRUE)"},
	{"CSR by an expired caller, and by one that is not attested yet", "services/authority TestAttackACSRByACallerWhoIsNobody", ""},
	{"CSR by a denied caller", "services/authority TestAttackACSRByADeniedCaller", ""},
	{"name constraint: sub-domain", constraint, "a sub-domain"},
	{"name constraint: port", constraint, "a port"},
	{"name constraint: userinfo", constraint, "userinfo"},
	{"name constraint: upper case", constraint, "upper case"},
	{"name constraint: no URI", constraint, "no URI: a name that the constraint does not speak of"},
	{"an issuer for another trust domain", "pki TestAnIssuerForAnotherTrustDomainIsRefused", ""},
	{"an issuer for another trust domain, imported", importing, "an issuer for another trust domain"},
	{"a leaf presented as CA", importing, "a leaf presented as CA"},
	{"a leaf presented as CA, over the network", "services/authority TestAttacksOnTheOtherMethods", "a leaf presented as CA"},
	{"a leaf presented as CA, to be cross-signed", "pki TestAttacksOnTheCrossCertificate", "a leaf presented as CA"},
	{"a leaf presented as CA, as the new root", "pki TestAttacksOnTheReplacementOfARoot", "a leaf presented as root"},
	{"150 roots with one Subject", document, "150 roots with one Subject"},
	{"150 roots in a file", "pki TestOnlyRootsOfOneTrustDomainMakeABundle", "150 roots"},
	{"same bundle in another order (no change)", "pki TestTheDigestOfABundleIsThatOfASet", "the same bundle in another order"},
	{"same bundle with one removed (change)", "pki TestTheDigestOfABundleIsThatOfASet", "the same bundle with one removed"},
	{"same bundle in another order, and with one removed, to workloads", "pki/agent TestTheSameRootsInAnotherOrderAreNoChangeAndOneLessIs", ""},
	{"sequence number going backwards", "internal/agentd TestAttackASequenceNumberThatGoesBackwards", ""},
	{"duplicate JSON keys in a bundle map", document, "duplicate JSON keys: keys twice"},
	{"duplicate JSON keys in a bundle map, one of them escaped", document, "duplicate JSON keys: one of them escaped"},
	{"wrong passphrase", keyFile, "wrong passphrase"},
	{"wrong passphrase, at the command", "internal/e2e TestOfflineFlowRefusesWhatDoesNotFit", "the wrong passphrase"},
	{"truncated key", keyFile, "a truncated file"},
	{"2,048 rounds", keyFile, "2,048 rounds"},
	{"a billion rounds", keyFile, "a billion rounds"},
	{"RFC 1423 header", keyFile, "an RFC 1423 header"},
	{"file mode 0644", "pki TestSecretsThatOthersMayReadAreRefused", ""},
	{"expired issuer at start", "internal/e2e TestEverythingHasExpiredAndTheRootIsElsewhere", ""},
	{"expired root at start", "pki TestAnExpiredRootAtStartSaysWhatToDo", ""},
	{"missed file event", "internal/agentd TestAttackAMissedFileEvent", ""},
	{"wall clock +2 days", clocks, "wall clock +2 days: everything seems to have expired, and its key is deleted"},
	{"wall clock -1 h", clocks, "wall clock -1 h"},
	{"wall clock +2 days, in the agent", "pki/agent TestAttackTheWallClockIsSetTwoDaysAhead", ""},
	{"wall clock -1 h, in the agent", "pki/agent TestAttackTheWallClockIsSetBackAnHour", ""},
	{"a one-time thing redeemed by 100 at once", "services/authority TestAttackAOneTimeThingRedeemedBy100AtOnce", ""},
	{"a one-time thing redeemed again, from another machine", "internal/e2e TestTicketIsGoodOnce", ""},
	{"Workload API without header", workloadAPI, "no security header"},
	{"Workload API with True", workloadAPI, "the header with True"},
	{"Workload API with two values", workloadAPI, "the header twice"},
	{"unknown uid", "pki/agent TestAttackAnotherLocalUsersProcessOnTheSocket", ""},
	{"pid reused between attestation and answer", "pki/agent TestAttackAConnectionWhosePIDIsReusedBeforeTheAnswer", ""},
	{"pid reused between attestation and answer, of a JWT-SVID", "pki/agent TestAttackAPIDThatIsReusedBetweenAttestationAndTheAnswerOfAJWT", ""},
	{"keys in logs of the agent", "pki/agent TestAttackKeysInLogs", ""},
	{"keys in logs of the authority", "services/authority TestAttackKeysAndTicketsInTheLog", ""},
	{"keys or passphrases in logs, arguments, environment", "internal/e2e TestOfflineRootToARunningMesh", "no secret is in a log, an argument or an environment"},
	{"serial collisions over 100,000", "pki TestSerialNumbersDoNotCollide", ""},
	{"a denied issuer key on open connections", "services/authority TestAttackADeniedIssuerKeyOnOpenConnections", ""},
	{"a denied issuer key on open connections, in a mesh", "internal/e2e TestARevokedIssuerIsGoneForGood", ""},
	{"retire of a root that one service has not seen", retirement, "a service that has not seen the new root"},
	{"retire of a root that one service has not seen, in a mesh", "internal/e2e TestARootIsNotRetiredWhileOneServiceHasNotSeenIt", ""},
}

// TestEveryAttackOnTheCertificateAuthorityHasATest fails when a row or a test is deleted or renamed.
func TestEveryAttackOnTheCertificateAuthorityHasATest(t *testing.T) {
	t.Parallel()
	requireTests(t, requiredAttacks)
}

// requireTests looks for the test of each attack.
func requireTests(t *testing.T, required []requiredAttack) {
	t.Helper()
	tests := map[string]map[string]bool{} // by folder and function: the strings in it
	for _, name := range files(t) {
		if strings.HasSuffix(name, "_test.go") {
			readTests(t, name, tests)
		}
	}
	for _, want := range required {
		if found, ok := tests[want.in]; !ok {
			t.Errorf("%s: there is no test %s", want.name, want.in)
		} else if want.as != "" && !found[want.as] {
			t.Errorf("%s: %s has no row %q", want.name, want.in, want.as)
		}
	}
}

// readTests adds the tests of a file, and its table "attacks", with the strings in them.
func readTests(t *testing.T, name string, tests map[string]map[string]bool) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), name, read(t, name), parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("parse %s: %v", name, err)
	}
	for _, decl := range file.Decls {
		var of string
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && strings.HasPrefix(d.Name.Name, "Test") {
				of = d.Name.Name
			}
		case *ast.GenDecl:
			if value, ok := d.Specs[0].(*ast.ValueSpec); ok && value.Names[0].Name == "attacks" {
				of = "attacks"
			}
		}
		if of == "" {
			continue
		}
		found := map[string]bool{}
		ast.Inspect(decl, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if text, err := strconv.Unquote(lit.Value); err == nil {
					found[text] = true
				}
			}
			return true
		})
		tests[path.Dir(name)+" "+of] = found
	}
}
