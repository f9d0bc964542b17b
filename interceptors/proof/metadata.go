package proof

import (
	"crypto/sha256"
	"encoding/binary"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
)

// notCovered is metadata that is no part of what a caller says: gRPC sets it itself, or tracing changes it below the
// signing interceptor.
var notCovered = map[string]bool{
	"authorization": true, // has a claim of its own
	"content-type":  true, "user-agent": true, "te": true, "host": true,
	"traceparent": true, "tracestate": true, "baggage": true,
}

// coverable tells whether proofs cover the metadata of a name.
func coverable(name string) bool {
	return name != "" && name == strings.ToLower(name) && !notCovered[name] &&
		!strings.HasPrefix(name, ":") && !strings.HasPrefix(name, "grpc-") && !strings.HasPrefix(name, "rolecall-")
}

// covered returns the names of what a proof covers, sorted.
func covered(md metadata.MD) []string {
	var names []string
	for name := range maps.Keys(md) {
		if coverable(name) && len(md[name]) > 0 {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// digest hashes the values of the names, each text with its length before it, so that no two different ones look alike.
func digest(names []string, md metadata.MD) string {
	h := sha256.New()
	var number [4]byte
	count := func(n int) {
		binary.BigEndian.PutUint32(number[:], uint32(n))
		h.Write(number[:])
	}
	for _, name := range names {
		count(len(name))
		h.Write([]byte(name))
		values := md[name]
		count(len(values))
		for _, value := range values {
			count(len(value))
			h.Write([]byte(value))
		}
	}
	return encoding.EncodeToString(h.Sum(nil))
}
