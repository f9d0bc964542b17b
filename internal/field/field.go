// Package field checks single fields of requests. Every error is an INVALID_ARGUMENT that names the field.
package field

import (
	"fmt"
	"regexp"
	"unicode"
	"unicode/utf8"

	"example.com/rolecall/interceptors"
)

// Text checks free text: least to most characters, none of them a control character.
func Text(name, value string, least, most int) error {
	if n := utf8.RuneCountInString(value); n < least || n > most {
		return interceptors.InvalidField(name, fmt.Sprintf("must have %d to %d characters", least, most))
	}
	for _, r := range value {
		if unicode.IsControl(r) {
			return interceptors.InvalidField(name, "must not hold control characters")
		}
	}
	return nil
}

var (
	id       = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)
	currency = regexp.MustCompile(`^[A-Z]{3}$`)
)

// ID checks a name that a service of the mesh chose: 1 to 64 letters, digits and dashes. Whether there is such a thing is
// for the service to say.
func ID(name, value string) error {
	if !id.MatchString(value) {
		return interceptors.InvalidField(name, "must be an ID as the service answered it: 1 to 64 letters, digits and dashes")
	}
	return nil
}

// Currency checks the form of an ISO 4217 code.
func Currency(name, value string) error {
	if !currency.MatchString(value) {
		return interceptors.InvalidField(name, "must be an ISO 4217 code: three upper-case letters")
	}
	return nil
}

// Amount checks an amount of minor units that must be more than zero.
func Amount(name string, minorUnits int64) error {
	if minorUnits <= 0 {
		return interceptors.InvalidField(name, "must be more than zero")
	}
	return nil
}
