package interceptors

import "example.com/rolecall/interceptors/internal/feature"

// subject is what a verdict of a feature is about.
type subject uint8

const (
	aboutUser subject = iota
	aboutProof
	aboutRequest // whether it takes effect once, its proof included
)

// reasonOf is the refusal that a verdict means. One that is not about its subject is a mistake of the feature: it is logged, and
// lets nobody in.
func (c *call) reasonOf(about subject, v feature.Verdict) reason {
	if v == feature.Good {
		return allowed
	}
	if r := meant(about, v); r != allowed {
		return r
	}
	c.server.guard.log.Error("a feature has answered with a verdict that makes no sense", "method", c.method.full, "about", about, "verdict", v)
	return panicked
}

// meant is what a verdict stands for; allowed for none.
func meant(about subject, v feature.Verdict) reason {
	switch about {
	case aboutUser:
		switch v {
		case feature.Invalid:
			return userTokenInvalid
		case feature.Expired:
			return userTokenExpired
		case feature.Revoked:
			return userTokenRevoked
		case feature.Unavailable:
			return verifierUnavailable
		}
	case aboutRequest:
		switch v {
		case feature.NoRequestID:
			return requestIDRequired
		case feature.Reused:
			return requestIDReused
		case feature.InProgress:
			return requestInProgress
		case feature.TooMany:
			return requestsFull
		case feature.Unavailable:
			return requestsUnavailable
		}
		return meant(aboutProof, v)
	case aboutProof:
		switch v {
		case feature.Invalid:
			return proofInvalid
		case feature.Expired:
			return proofExpired
		case feature.Unavailable:
			return verifierUnavailable
		case feature.Unknown:
			return proofSignerUnknown
		case feature.Replayed:
			return proofReplayed
		case feature.Full:
			return proofWindowFull
		}
	}
	return allowed
}
