//go:build !unix

package agent

import "io/fs"

// isRefused tells that nobody listens on a socket that is there; here that is not known.
func isRefused(error) bool { return false }

// ownedByUs tells whether a file belongs to the user that this process runs as; here that is not known, and New has
// refused to start anyway.
func ownedByUs(fs.FileInfo) bool { return false }
