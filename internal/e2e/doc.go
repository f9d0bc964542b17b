// Package e2e holds the tests of the whole: real processes, real certificates, real sockets, and clients in other languages.
package e2e
