package pki

import (
	"fmt"
	"log/slog"
)

// hidden stands where a Secret would show.
const hidden = "[secret]"

// Secret is a passphrase. It reads [secret] wherever it is printed, logged or encoded, so that whoever logs a whole
// configuration gives nothing away. An unexported field does not call these methods: hold a func that returns it there.
type Secret []byte

// Format implements fmt.Formatter for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue implements slog.LogValuer.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText implements encoding.TextMarshaler, and so that of JSON and YAML.
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }
