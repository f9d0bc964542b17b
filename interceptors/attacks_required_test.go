package interceptors_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// requiredAttack is an attack that this package, or authz below it, must have a test for: a row of TestAttacks, or a test
// of its own, or a row of another one's table.
type requiredAttack struct {
	name string
	in   string // folder and function of the test; empty: TestAttacks
	as   string // the row there; empty: the whole function
}

const (
	annotations = "internal/authz TestAttacksOnAnnotationsStopTheServer"
	unknown     = "internal/authz TestAnnotationsReadTheSameHoweverTheDescriptorWasMade"
	heldRoles   = "internal/authz TestAttacksOnHeldRolesGainNothing"
	subsets     = "internal/authz TestAttacksWithARoleSubsetGainNothing"
	strictFile  = "internal/authz TestABindingsFileIsReadStrictly"
	userTokens  = "usertoken attacks"
	leeway      = "usertoken TestLeewayToTheSecond"
	otherTokens = "usertoken TestAttacksWithTokensOfACompanysIssuerAreRefused"
	revocations = "usertoken TestAStreamOfRevocationsThatCannotBeTrueIsReadAnew"
	signers     = ". TestASignerIsDecidedAboutAsAPeerIs"
	keySets     = "usertoken TestAttacksWithKeySetsAreRefused"
)

var requiredAttacks = []requiredAttack{
	{name: "no client certificate"},
	{name: "plaintext"},
	{name: "a TLS 1.2 client"},
	{name: "a certificate of another CA"},
	{name: "resumed session after its CA left the bundle"},
	{name: "expired certificate on a live connection"},
	{name: "expired certificate on an open idle stream"},
	{name: "expired certificate on a stream blocked in SendMsg by a client that does not read"},
	{name: "expired certificate on a stream blocked in RecvMsg"},
	{name: "ID denied while connected"},
	{name: "key denied while connected"},
	{name: "key of the CA denied while connected"},
	{name: "key of the issuer denied while connected"},
	{name: "denied peer that asks for methods nobody has"},
	{name: "CA left the bundle while connected"},
	{name: "CA left the bundle while a stream is open and idle"},
	{name: "role taken away on an open connection"},
	{name: "role taken away from an open idle stream"},
	{name: "role taken away from a stream blocked in SendMsg by a client that does not read"},
	{name: "role taken away from a stream blocked in RecvMsg"},
	{name: "two URI SANs"},
	{name: "no URI SAN"},
	{name: "path-less ID"},
	{name: "another trust domain"},
	{name: "sub-domain of the trust domain"},
	{name: "port in the trust domain"},
	{name: "userinfo in the trust domain"},
	{name: "upper case in the trust domain"},
	{name: "CA flag"},
	{name: "keyCertSign"},
	{name: "no key usage"},
	{name: "EKU server only"},
	{name: "a key of RSA 1024 bits"},
	{name: "a key on the curve P-224"},
	{name: "leaf signed by a leaf"},
	{name: "CN used as identity"},
	{name: "DNS name used as identity"},
	{name: "a root of the operating system", in: ". TestARootOfTheOperatingSystemIsNotTrusted"},
	{name: "x-forwarded-client-cert"},
	{name: "rolecall-id"},
	{name: "rolecall-roles"},
	{name: "rolecall-roles-bin"},
	{name: "rolecall metadata in upper case"},
	{name: "upper case in a raw header name"},
	{name: "rolecall metadata duplicated"},
	{name: "role subset with unknown, duplicate and superset values"},
	{name: "unknown role in a subset", in: subsets, as: "unknown role"},
	{name: "duplicate role in a subset", in: subsets, as: "duplicate role"},
	{name: "empty subset", in: subsets, as: "empty list"},
	{name: "empty role in a subset", in: subsets, as: "empty name"},
	{name: "subset that is a superset", in: subsets, as: "superset"},
	{name: ":path without slash"},
	{name: ":path with double slash"},
	{name: ":path with trailing slash"},
	{name: ":path with percent-encoding"},
	{name: ":path in other case"},
	{name: "reflection without a role"},
	{name: "reflection v1alpha without a role"},
	{name: "health without a certificate"},
	{name: "health without a role", in: ". TestHealthNeedsNoRole"},
	{name: "annotation in unknown fields", in: unknown, as: "in unknown fields"},
	{name: "bad annotation in unknown fields", in: "internal/authz TestBadAnnotationsInUnknownFieldsStopTheServerToo"},
	{name: "annotation in a dynamic descriptor", in: unknown, as: "in a dynamic descriptor"},
	{name: "annotation number of the future", in: annotations, as: "annotation number of the future on a method"},
	{name: "empty role", in: annotations, as: "empty role"},
	{name: "the same role defined twice", in: annotations, as: "same role defined twice with another meaning"},
	{name: "role with regular-expression characters in an annotation", in: annotations, as: "role with regular-expression characters"},
	{name: "role with regular-expression characters in the bindings", in: strictFile, as: "role with regular-expression characters"},
	{name: "ID with regular-expression characters", in: strictFile, as: "member with regular-expression characters"},
	{name: "prefix member without segment border", in: heldRoles, as: "prefix member without segment border"},
	{name: "wildcard and a foreign trust domain", in: heldRoles, as: "wildcard and a foreign trust domain"},
	{name: "any_workload by a foreign trust domain"},
	{name: "wildcard member by a foreign trust domain"},
	{name: "panic in a handler, unary and stream", in: ". TestAPanicOfAHandlerIsABareInternalError"},
	{name: "panic in a check, unary and stream", in: ". TestPanicInACheckRefusesTheCall"},
	{name: "panic in a check of an open stream", in: ". TestPanicInACheckOfAnOpenStreamClosesItsConnection"},
	{name: "message over the size limit"},
	{name: "10,000 idle streams from one peer"},
	{name: "unary calls without a body", in: ". TestUnaryCallsThatWaitForTheirBodiesAreLimited"},
	{name: "too many connections of one peer", in: ". TestAPeersConnectionsAreLimited"},
	{name: "silent connections that hold the places of handshakes", in: "internal/identity TestSilentConnectionsDoNotKeepOthersOut"},
	{name: "a slow handshake"},
	{name: "alg none", in: userTokens, as: "alg none"},
	{name: "alg noNE", in: userTokens, as: "alg noNE"},
	{name: "HS256 with the public key as secret", in: userTokens, as: "HS256 with the public key as secret"},
	{name: "one key with two algorithms", in: userTokens, as: "one key with two algorithms"},
	{name: "one key with two algorithms in a key set", in: "internal/jws TestAKeySetThatNobodyShouldTrustIsRefused", as: "one key with two algorithms"},
	{name: "kid with path", in: userTokens, as: "kid with path"},
	{name: "kid with SQL", in: userTokens, as: "kid with SQL"},
	{name: "kid of 10 KB", in: userTokens, as: "kid of 10 KB"},
	{name: "kid unknown", in: userTokens, as: "kid unknown"},
	{name: "kid unknown: no unbounded refetch", in: "usertoken TestUnknownKeyIDsFetchKeysAtMostOnceASecond"},
	{name: "kid of another issuer", in: otherTokens, as: "kid of another issuer"},
	{name: "jku", in: userTokens, as: "jku"},
	{name: "x5u", in: userTokens, as: "x5u"},
	{name: "jwk", in: userTokens, as: "jwk"},
	{name: "x5c", in: userTokens, as: "x5c"},
	{name: "crit", in: userTokens, as: "crit"},
	{name: "audience missing", in: userTokens, as: "audience missing"},
	{name: "audience empty", in: userTokens, as: "audience empty"},
	{name: "audience other", in: userTokens, as: "audience other"},
	{name: "audience array", in: userTokens, as: "audience array"},
	{name: "exp missing", in: userTokens, as: "exp missing"},
	{name: "exp float", in: userTokens, as: "exp float"},
	{name: "exp string", in: userTokens, as: "exp string"},
	{name: "exp 1e30", in: userTokens, as: "exp 1e30"},
	{name: "nbf ahead", in: userTokens, as: "nbf ahead"},
	{name: "exp beyond the cap", in: userTokens, as: "exp beyond the cap"},
	{name: "leeway to the second", in: leeway},
	{name: "refresh as access", in: userTokens, as: "refresh as access"},
	{name: "JWT-SVID as user token", in: userTokens, as: "JWT-SVID as user token"},
	{name: "proof as token", in: userTokens, as: "proof as token"},
	{name: "JSON serialization", in: userTokens, as: "JSON serialization"},
	{name: "duplicate claims", in: userTokens, as: "duplicate claims"},
	{name: "five-part JWE", in: userTokens, as: "five-part JWE"},
	{name: "a million dots", in: "usertoken TestAMillionDotsAreCountedAndNotSplit"},
	{name: "token of a disabled user", in: "usertoken TestTokenOfADisabledUser"},
	{name: "token of a user through a workload that lacks the role", in: "usertoken TestUsersAndWorkloadsLendEachOtherNothing", as: "token of a user through a workload that lacks the role"},
	{name: "token forwarded to a server of another trust domain", in: "usertoken TestATokenForwardedToAServerOfAnotherTrustDomain"},
	{name: "generation overflow", in: userTokens, as: "generation overflow"},
	{name: "generation overflow in a revocation", in: "usertoken TestGenerationOverflowEndsAllTokensOfTheUser"},
	{name: "revocation stream cut", in: "usertoken TestTheStreamOfRevocationsIsCut"},
	{name: "revocation stream replayed", in: revocations, as: "replayed"},
	{name: "revocation stream reordered", in: revocations, as: "reordered"},
	{name: "revocation stream with a gap", in: revocations, as: "a gap"},
	{name: "a verifier that starts while tokens is down", in: "usertoken TestAVerifierThatStartsWhileTokensIsDown"},
	{name: "keys signed by another workload", in: keySets, as: "signed by another workload"},
	{name: "secrets in logs, audit records, error details and panics", in: "usertoken TestSecretsInLogsAuditRecordsErrorDetailsAndPanics"},
	{name: "signer denied", in: signers, as: "signer denied"},
	{name: "signer's key denied", in: signers, as: "signer's key denied"},
	{name: "signer without the role", in: signers, as: "signer without the role"},
	{name: "peer without the role", in: signers, as: "peer without the role"},
	{name: "a handler that calls another service inside the transaction", in: ". TestAHandlerThatCallsAnotherServiceInsideTheTransactionIsRefused"},
	{name: "authorization twice", in: "usertoken TestTheHeaderIsReadStrictly", as: "authorization twice"},
}

// TestEveryRequiredAttackHasATest fails when a row or a test is deleted.
func TestEveryRequiredAttackHasATest(t *testing.T) {
	t.Parallel()
	rows := map[string]bool{}
	for _, table := range attacks {
		for _, a := range table {
			rows[a.name] = true
		}
	}
	tests := map[string]map[string]bool{} // by folder and function: the strings in it
	for _, dir := range []string{".", "internal/authz", "internal/identity", "internal/jws", "usertoken"} {
		readTests(t, dir, tests)
	}
	for _, want := range requiredAttacks {
		if want.in == "" {
			if !rows[want.name] {
				t.Errorf("%s: TestAttacks has no such row", want.name)
			}
			continue
		}
		found, ok := tests[want.in]
		if !ok {
			t.Errorf("%s: there is no test %s", want.name, want.in)
		} else if want.as != "" && !found[want.as] {
			t.Errorf("%s: %s has no row %q", want.name, want.in, want.as)
		}
	}
}

// readTests adds the tests of a folder and the strings in them.
func readTests(t *testing.T, dir string, tests map[string]map[string]bool) {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*_test.go"))
	must(t, err)
	for _, path := range paths {
		source, err := os.ReadFile(path)
		must(t, err)
		file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
		must(t, err)
		for _, decl := range file.Decls {
			name, body := testOrTable(decl)
			if name == "" {
				continue
			}
			found := map[string]bool{}
			ast.Inspect(body, func(n ast.Node) bool {
				if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
					if text, err := strconv.Unquote(lit.Value); err == nil {
						found[text] = true
					}
				}
				return true
			})
			tests[dir+" "+name] = found
		}
	}
}

// testOrTable returns the name and the inside of a test, or of a table named attacks.
func testOrTable(decl ast.Decl) (string, ast.Node) {
	switch d := decl.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil && strings.HasPrefix(d.Name.Name, "Test") {
			return d.Name.Name, d.Body
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			if v, ok := spec.(*ast.ValueSpec); ok && v.Names[0].Name == "attacks" {
				return "attacks", v
			}
		}
	}
	return "", nil
}
