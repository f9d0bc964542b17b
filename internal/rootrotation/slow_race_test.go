//go:build race

package rootrotation_test

const slowness = 3
