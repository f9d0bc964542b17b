package interceptors

import "time"

// WithClock replaces the wall clock.
func WithClock(now func() time.Time) Option {
	return func(o *options) error {
		o.now = now
		return nil
	}
}
