package agent

import (
	"sync"
	"time"
)

// seldom lets through what each user causes once a second: a program that is refused and tries again and again must not
// fill the log. Safe for concurrent use.
type seldom struct {
	now func() time.Time

	mu   sync.Mutex
	last map[uint32]time.Time
	left map[uint32]int
}

const (
	seldomEvery    = time.Second
	maxSeldomUsers = 1024
)

func newSeldom(now func() time.Time) *seldom {
	return &seldom{now: now, last: map[uint32]time.Time{}, left: map[uint32]int{}}
}

// may tells whether it is time again, and how many were left out since the last time.
func (s *seldom) may(uid uint32) (leftOut int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	if last, known := s.last[uid]; known && now.Sub(last).Abs() < seldomEvery {
		s.left[uid]++
		return 0, false
	}
	if len(s.last) >= maxSeldomUsers {
		clear(s.last)
		clear(s.left)
	}
	leftOut = s.left[uid]
	s.last[uid] = now
	delete(s.left, uid)
	return leftOut, true
}
