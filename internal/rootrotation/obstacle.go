package rootrotation

import (
	"fmt"
	"strings"
	"time"
)

// Obstacle is one thing that stands in the way of a step.
type Obstacle struct {
	// ID is the SPIFFE ID of who is missing; empty for what only time brings.
	ID string `json:"spiffe_id,omitempty"`
	// What is missing, and Do what helps.
	What string `json:"what"`
	Do   string `json:"do"`
	// Until is when it is over by itself; zero: it is not.
	Until time.Time `json:"until,omitzero"`
}

// String returns it as a line for people.
func (o Obstacle) String() string {
	about := o.ID
	if about == "" {
		about = "time"
	}
	return about + ": " + o.What
}

// UnsafeError says that a step was not taken, and who or what is missing.
type UnsafeError struct {
	Step      string
	Obstacles []Obstacle
}

func (e *UnsafeError) Error() string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s is not safe yet, and nothing was changed; missing:", e.Step)
	for _, o := range e.Obstacles {
		fmt.Fprintf(&text, "\n  %s\n      → %s", o, o.Do)
	}
	text.WriteString("\nrun the command again when this has changed; --without SPIFFE-ID --reason TEXT leaves one out, for the record")
	return text.String()
}
