package repo_test

import "testing"

const (
	proofs    = "interceptors/proof attacks"
	receipts  = "interceptors/proof TestReceiptsSwappedReplayedAndStripped"
	lying     = "interceptors/proof TestKeyServerLying"
	sameID    = "interceptors/exactlyonce TestTheSameRequestID"
	forwarded = "services/orders TestARelayCannotAlterTheAmount"
)

// requiredProofAttacks are those on signed requests, on the key server and on requests that take effect once, and what must be
// shown of them.
var requiredProofAttacks = []requiredAttack{
	{"the same proof twice", "interceptors/proof TestTheSameProofTwice", ""},
	{"the same proof twice, at the ledger", "services/ledger TestTheSameProofTwiceMovesMoneyOnce", ""},
	{"the same proof 100 times in parallel", "interceptors/proof TestTheSameProofAHundredTimesInParallel", ""},
	{"the same proof after a restart", "interceptors/proof TestTheSameProofAfterARestart", ""},
	{"the same proof after a restart, at the ledger", "services/ledger TestAProofIsNotGoodAgainAfterARestart", ""},
	{"the same proof at a second replica", "services/ledger TestAProofThatIsSentToTwoReplicasAtOnceIsAcceptedByOne", ""},
	{"the same proof for another method", proofs, "for another method"},
	{"the same proof for another service", proofs, "for another service"},
	{"the same proof for another server", proofs, "for another server"},
	{"the same proof for another body", proofs, "another body"},
	{"the same proof with another access token", proofs, "with another access token (ath)"},
	{"the same proof with none", proofs, "with none"},
	{"the same proof with other metadata that a handler uses", proofs, "with other metadata that a handler uses"},
	{"metadata that a handler uses and no proof covers", proofs, "with metadata that a handler uses and it does not cover"},
	{"a bad signature with a victim's nonce", "interceptors/proof TestABadSignatureWithAVictimsNonceDoesNotBurnIt", ""},
	{"another identity with the same nonce", "interceptors/proof TestANonceIsBurnedOnce", ""},
	{"another identity with the same nonce, in a database", "interceptors/proof TestNoncesInADatabaseAreBurnedOnce", ""},
	{"exp ahead of the cap", proofs, "exp ahead of the cap"},
	{"iat in the future", proofs, "iat in the future"},
	{"window edges to the second", "interceptors/proof TestWindowEdgesToTheSecond", ""},
	{"server clock set back ten minutes", "interceptors/proof TestServerClockSetBackTenMinutes", ""},
	{"nonce of 1 KB", proofs, "nonce of 1 KB"},
	{"nonce empty", proofs, "nonce empty"},
	{"nonce not random", "interceptors/proof TestANonceThatIsNotRandomIsGoodOnce", ""},
	{"ten million nonces from one identity", "interceptors/proof TestTenMillionNoncesFromOneIdentity", ""},
	{"signer's key rotated", "interceptors/proof TestSignersKeyRotated", ""},
	{"a leaf rotation in the middle of constant signed calls, direct and relayed", "interceptors/proof TestALeafRotationInTheMiddleOfConstantSignedCalls", ""},
	{"signer unknown", "interceptors/proof TestSignerUnknown", ""},
	{"signer denied", "interceptors/proof TestSignerDenied", ""},
	{"signer without the role, peer without the role", "interceptors/proof TestSignerWithoutTheRoleAndPeerWithoutTheRole", ""},
	{"key server down", "interceptors/proof TestKeyServerDown", ""},
	{"key server lying: a key that the signer never had", lying, "a key that the signer never had"},
	{"key server lying: an expired key", lying, "an expired one"},
	{"key server lying: a key of another trust domain", lying, "one of another trust domain"},
	{"a workload announces for another", "services/keys TestNobodyAnnouncesForAnother", ""},
	{"the certificate of another connection is announced", "services/keys TestTheCertificateOfTheVeryConnectionIsRecorded", ""},
	{"alg none", proofs, "alg none"},
	{"alg HS256 with the public key as secret", proofs, "alg HS256 with the public key as secret"},
	{"typ confusion with an access token", proofs, "typ of an access token"},
	{"typ confusion with a receipt", proofs, "typ of a receipt"},
	{"JWS with a jwk header", proofs, "JWS with a jwk header"},
	{"JWS with an x5c header", proofs, "JWS with an x5c header"},
	{"receipt swapped", receipts, "swapped for another call's"},
	{"receipt replayed", receipts, "replayed with our nonce from before"},
	{"receipt stripped", receipts, "stripped"},
	{"a changed byte", "interceptors/proof TestAChangedByteIsNotVerified", ""},
	{"an amount that the relay has changed", forwarded, ""},
	{"an amount that the relay has changed, at the ledger", "services/ledger TestAnAmountThatWasChangedOnTheWayIsRefused", ""},
	{"one signed payment for two orders", "services/orders TestASignedPaymentIsForOneOrderOnly", ""},
	{"the same request_id with another payload", sameID, "with another payload"},
	{"the same request_id by another caller", sameID, "by another caller"},
	{"the same request_id for another user", sameID, "for another user"},
	{"the same request_id on another method", sameID, "on another method"},
	{"the same request_id 100 in parallel", "interceptors/exactlyonce TestTheSameRequestID100InParallel", ""},
	{"the same request_id after expiry", sameID, "after expiry"},
	{"a delayed first attempt after a stored refusal", "interceptors/exactlyonce TestADelayedFirstAttemptAfterAStoredRefusal", ""},
	{"a delayed first attempt after a cancellation, at the ledger", "services/ledger TestACancelledRequestIsRefusedWhenItArrives", ""},
	{"crash between effect and store", "interceptors/exactlyonce TestCrashBetweenEffectAndStore", ""},
	{"crash in the middle of a saga", "interceptors/exactlyonce TestCrashInTheMiddleOfASaga", ""},
	{"a handler that calls another service inside the transaction", "interceptors/exactlyonce TestAHandlerThatCallsAnotherServiceInsideTheTransactionIsRefused", ""},
	{"a password in the table of requests", "interceptors/exactlyonce TestAPasswordIsNoPartOfWhatIsStored", ""},
	{"kill -9 at random moments under load", "internal/e2e TestSoakKillsLoseNothingAndRepeatNothing", ""},
	{"a captured conversation", "internal/e2e TestACapturedConversationIsOfNoUse", ""},
	{"a transfer without a proof, by grpcurl", "internal/e2e TestClientsInEveryLanguageCallAsAliceAndAreRefusedAsCarol", ""},
}

// TestEveryAttackOnSignedRequestsHasATest fails when a row or a test is deleted or renamed.
func TestEveryAttackOnSignedRequestsHasATest(t *testing.T) {
	t.Parallel()
	requireTests(t, requiredProofAttacks)
}
