package proof

import "time"

// pace is how often and how long. Tests make it faster.
type pace struct {
	tick     time.Duration // between looks at whether the own certificate is a new one
	redial   time.Duration // before the first attempt to announce after one that failed; doubles
	most     time.Duration // between two attempts
	renew    time.Duration // between two announcements of one key: a key server may have lost what it knew
	fetch    time.Duration // that a fetch or an announcement may take
	again    time.Duration // between two questions for the keys of one signer on behalf of one peer
	refill   time.Duration // for which a question takes up its place at least
	check    time.Duration // between two questions whether the key server knows the own key
	backoff  time.Duration // before the second attempt of a call; doubles
	longest  time.Duration // between two attempts of a call
	patience time.Duration // with PROOF_EXPIRED; zero: by the leeway
	lock     time.Duration // until another process must have given up the file of the mark
}

var production = pace{
	tick:    time.Second,
	redial:  200 * time.Millisecond,
	most:    5 * time.Second,
	renew:   10 * time.Minute,
	fetch:   2 * time.Second,
	again:   250 * time.Millisecond,
	refill:  10 * time.Millisecond,
	check:   10 * time.Second,
	backoff: 100 * time.Millisecond,
	longest: 2 * time.Second,
	lock:    5 * time.Second,
}

func (p pace) orDefault() pace {
	if p == (pace{}) {
		return production
	}
	return p
}
