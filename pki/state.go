package pki

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
)

const (
	stateFile    = "state.json"
	stateVersion = 1
	maxReason    = 500     // bytes
	maxSequence  = 1 << 53 // what JSON numbers hold in every language (RFC 8259 §6), as the bundle document has them
)

// storedState is state.json: what somebody decided, and the number of the bundle. All else follows from certificates and
// the wall clock. It is replaced as a whole, by holders of the lock only.
type storedState struct {
	Version      int                   `json:"version"`
	TrustDomain  spiffeid.TrustDomain  `json:"trust_domain,omitzero"` // before there is a bundle that says it
	Sequence     uint64                `json:"sequence"`
	BundleSHA256 Digest                `json:"bundle_sha256"` // of the content that the sequence number stands for
	Activated    map[int]time.Time     `json:"activated,omitempty"`
	Revoked      map[int]storedRevoked `json:"revoked,omitempty"`
	Rotation     *storedRotation       `json:"rotation,omitempty"`

	digest Digest // of the file
}

type storedRevoked struct {
	At     time.Time `json:"at"`
	Reason string    `json:"reason"`
}

// readState reads state.json; one that is not there is the state of an authority in which nobody decided anything yet. A
// damaged one is refused: without it a revoked issuer would sign again.
func (s *Issuers) readState() (*storedState, error) {
	path := filepath.Join(s.dir, stateFile)
	data, err := readSecret(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &storedState{Version: stateVersion}, nil
	}
	if err != nil {
		return nil, err
	}
	state, err := parseState(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup (without it revoked issuers would sign again)", path, err)
	}
	state.digest = sha256.Sum256(data)
	return state, nil
}

func parseState(data []byte) (*storedState, error) {
	if err := checkJSON(data); err != nil {
		return nil, err
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, err
	}
	if head.Version != stateVersion {
		return nil, fmt.Errorf("version %d is unknown, this program reads version %d: use the program that wrote it, or a newer one", head.Version, stateVersion)
	}
	var state storedState
	in := json.NewDecoder(bytes.NewReader(data))
	in.DisallowUnknownFields()
	if err := in.Decode(&state); err != nil {
		return nil, err
	}
	if state.Sequence > maxSequence {
		return nil, fmt.Errorf("sequence number %d: %d at most", state.Sequence, uint64(maxSequence))
	}
	for generation, revoked := range state.Revoked {
		if generation < 1 || revoked.At.IsZero() {
			return nil, fmt.Errorf("revoked issuer %d: a generation from 1 on and a time are needed", generation)
		}
	}
	if state.Rotation != nil {
		if err := state.Rotation.check(); err != nil {
			return nil, fmt.Errorf("rotation: %w", err)
		}
	}
	return &state, nil
}

// change writes state.json with what edit does to a copy of the state at hand. The caller holds the lock.
func (s *Issuers) change(edit func(*storedState)) error {
	next, err := s.readState()
	if err != nil {
		return err
	}
	edit(next)
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", stateFile, err)
	}
	if data = append(data, '\n'); len(data) > maxFile { // nobody could read it again, and no authority would start
		return fmt.Errorf("%s would grow past %d bytes", stateFile, maxFile)
	}
	return writeFile(filepath.Join(s.dir, stateFile), data, 0o600)
}

// checkReason accepts what may stand in state.json, in audit records and on a terminal.
func checkReason(reason string) error {
	if reason == "" {
		return errors.New("a reason is needed: it is what is left when somebody asks later")
	}
	return checkLine("reason", reason)
}

// checkLine accepts one line of text of at most 500 bytes.
func checkLine(what, text string) error {
	switch {
	case text == "":
		return fmt.Errorf("the %s is empty", what)
	case len(text) > maxReason:
		return fmt.Errorf("the %s has %d bytes, at most %d are kept", what, len(text), maxReason)
	case !utf8.ValidString(text):
		return fmt.Errorf("the %s is not UTF-8 text", what)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("the %s holds a control character: one line of text is kept", what)
	}
	return nil
}
