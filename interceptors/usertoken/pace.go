package usertoken

import "time"

// pace is how often and how long. Tests make it faster.
type pace struct {
	tick    time.Duration // between looks at what gets old
	silence time.Duration // after which a stream that says nothing is dead; the tokens service says something every 5 s
	redial  time.Duration // before the first attempt after one that failed; doubles
	most    time.Duration // between two attempts
	refetch time.Duration // between two fetches of keys that tokens cause
	reload  time.Duration // between two looks at the keys of a URL
	file    time.Duration // between two looks at a file with keys
	fetch   time.Duration // that a fetch may take
}

var production = pace{
	tick:    time.Second,
	silence: 15 * time.Second,
	redial:  200 * time.Millisecond,
	most:    3 * time.Second,
	refetch: time.Second,
	reload:  5 * time.Minute,
	file:    5 * time.Second,
	fetch:   2 * time.Second,
}

func (p pace) orDefault() pace {
	if p == (pace{}) {
		return production
	}
	return p
}
