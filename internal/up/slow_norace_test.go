//go:build !race

package up

import "time"

// patience is how long a test waits for what should happen at once.
const patience = 10 * time.Second
