//go:build !linux

package mesh

// portOwner would need lsof here.
func portOwner(int) (string, bool) { return "", false }
