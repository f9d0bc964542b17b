package repo_test

import "testing"

const (
	chains      = "interceptors/usertoken TestAlongAnyChainNobodyGains"
	enumeration = "services/users TestNobodyLearnsWhichUsersThereAre"
	throughGRPC = "internal/e2e TestAUserOrdersThroughGrpcurlAndBob"
	byAlice     = "internal/e2e TestWhatAliceDoesToAUserTakesEffectWithinASecond"
	secretFree  = "services/tokens TestSecretsAppearInNoLogNoErrorAndNoMetric"
)

// requiredUserAttacks are those on users, logins and sessions, and what must be shown of them. The attacks on the access
// token itself are listed in interceptors/attacks_required_test.go.
var requiredUserAttacks = []requiredAttack{
	{"username enumeration by text and by the counted number of hash runs", enumeration, ""},
	{"username enumeration, at grpcurl", throughGRPC, "a user who does not exist"},
	{"password flood", "services/users TestAFloodOfLoginsIsRefusedBeyondWhatMayWait", ""},
	{"password flood: memory", "services/users TestNoMoreHashesRunAtOnceThanTheGateLetsThrough", ""},
	{"passwords guessed for one username, known or not", "services/users TestAttemptsForOneUsernameAreBoundedWhetherItIsKnownOrNot", ""},
	{"passwords verified by somebody else than the tokens service", "services/users TestOnlyTheTokensServiceVerifiesPasswords", ""},
	{"generation overflow", "services/users TestAGenerationDoesNotOverflow", ""},
	{"more roles than the user holds", "services/tokens TestATokenCarriesNeverMoreThanTheUserHolds", ""},
	{"login through a workload without the role", "services/tokens TestLoginThroughAWorkloadWithoutTheRoleIsRefused", ""},
	{"50 parallel refreshes with one refresh token", "services/tokens TestFiftyParallelRefreshesMakeOneChain", ""},
	{"the old refresh token after the grace", "services/tokens TestAnOldRefreshTokenAfterTheGraceEndsAllSessionsAndRaisesTheGeneration", ""},
	{"the same while users is away", "services/tokens TestATheftIsActedOnWhileUsersIsAwayAndTheGenerationRaisedWhenItIsBack", ""},
	{"two clients and a thief, in every order", "services/tokens TestModelOfTwoClientsAndAThiefInEveryOrder", ""},
	{"a refresh token at another workload", "services/tokens TestARefreshTokenIsGoodForTheWorkloadItWasGivenToAlone", ""},
	{"refresh tokens that are none", "services/tokens TestRefreshTokensThatAreNoneGetOneAnswer", ""},
	{"the database of tokens, read", "services/tokens TestTheDatabaseAloneGivesNoToken", ""},
	{"the database of tokens, put back from a copy", "services/tokens TestAWatchFromTheFutureBeginsANewEpoch", ""},
	{"a reader of revocations who does not read", "services/tokens TestTheStopEndsWatchesAlsoOfAReaderWhoDoesNotRead", ""},
	{"revocation through one replica, verified at another", "services/tokens TestARevocationThroughOneReplicaReachesTheWatchersOfTheOtherWithinASecond", ""},
	{"secrets in logs, error details and metrics", secretFree, ""},
	{"secrets in messages that are printed", "services/tokens TestFieldsWithSecretsAreMarked", ""},
	{"secrets in refusals, at grpcurl", throughGRPC, "the refusal holds a secret"},
	{"roles gained along a chain of up to five hops", chains, ""},
	{"a call that needs a user, without one", throughGRPC, "PlaceOrder without a token"},
	{"a token that was changed", throughGRPC, "a token that was changed"},
	{"a refresh token as access token", throughGRPC, "a refresh token as access token"},
	{"a role left out of the token", throughGRPC, "without the role of the user"},
	{"an account of somebody else, at the order", throughGRPC, "an account of somebody else"},
	{"an account of another user, at the order", "internal/e2e TestAnOrderIsPaidAcrossThreeServices", "and not out of an account of another user"},
	{"a token whose session was revoked, in every service within a second", throughGRPC, "Revoke ends the session in every service within a second"},
	{"a token of a disabled user, in every service within a second", byAlice, "Disable: sessions end, and there are no others"},
	{"a token from before SetRoles, in every service within a second", byAlice, "SetRoles: older tokens end, and the session goes on with the new roles"},
	{"a token after RevokeUser, in every service within a second", byAlice, "RevokeUser: sessions end, and the user may log in again"},
	{"a token from before a new password, in every service within a second", byAlice, "SetPassword: sessions end, and the new password is good"},
	{"a stream that is open when the session of its user ends", "internal/e2e TestAnOpenStreamEndsWithTheSessionOfItsUser", ""},
	{"a revocation from before the tokens service was killed", "internal/e2e TestTokensIsKilledAndForgetsNothing", ""},
	{"an order that nobody can be held to", "internal/e2e TestTheAuditRecordsOfAnOrderNameWorkloadAndUser", ""},
	{"a session file that others can read", "internal/e2e TestLoginKeepsASessionUntilLogout", "a file that others can read is not used"},
}

// TestEveryAttackOnUsersHasATest fails when a row or a test is deleted or renamed.
func TestEveryAttackOnUsersHasATest(t *testing.T) {
	t.Parallel()
	requireTests(t, requiredUserAttacks)
}
