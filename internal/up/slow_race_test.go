//go:build race

package up

import "time"

// patience is how long a test waits for what should happen at once. The race detector makes opening a key ten times slower.
const patience = 40 * time.Second
