package users

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/mail"
	"regexp"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/fieldmaskpb"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/field"
)

var username = regexp.MustCompile(`^[a-z][a-z0-9._-]{0,63}$`)

func checkUsername(name, value string) error {
	if !username.MatchString(value) {
		return interceptors.InvalidField(name, "must be 1 to 64 of a-z, 0-9, dot, dash and underscore, starting with a letter")
	}
	return nil
}

func checkDisplayName(value string) error { return field.Text("user.display_name", value, 0, 200) }

func checkEmail(value string) error {
	if value == "" {
		return nil
	}
	if err := field.Text("user.email", value, 1, 254); err != nil {
		return err
	}
	// A bare address: ParseAddress alone also takes "Alice <alice@example.com>".
	if address, err := mail.ParseAddress(value); err != nil || address.Address != value || address.Name != "" {
		return interceptors.InvalidField("user.email", "must be empty or an address such as alice@example.com")
	}
	return nil
}

// Bounds of what travels in an access token, which has 8 KiB at most.
const (
	maxRoles      = 64
	maxRolesBytes = 1024 // all names together, each with the three bytes that JSON adds
	maxAttributes = 4096
	maxDepth      = 12 // how deep attributes nest: verifiers read tokens no deeper than 16
)

var roleName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)

// checkRoles returns role names sorted and without repetition. Whether there are such roles is for the services to say
// that own them.
func checkRoles(name string, roles []string) ([]string, error) {
	if len(roles) > maxRoles {
		return nil, interceptors.InvalidField(name, "must be 64 roles at most")
	}
	size := 0
	for i, role := range roles {
		if !roleName.MatchString(role) || len(role) > 255 {
			return nil, interceptors.InvalidField(name+"["+strconv.Itoa(i)+"]", "must be the name of a role, such as orders.customer")
		}
		size += len(role) + 3
	}
	if size > maxRolesBytes {
		return nil, interceptors.InvalidField(name, "must have 1,024 bytes at most together, counting three for each role")
	}
	sorted := slices.Sorted(slices.Values(roles))
	return slices.Compact(sorted), nil
}

// checkAttributes returns attributes as compact JSON. A key that occurs twice is refused: who reads the token would take
// the first, or the last, or refuse the token.
func checkAttributes(value string) (string, error) {
	if value == "" {
		return "", nil
	}
	if len(value) > maxAttributes {
		return "", interceptors.InvalidField("user.attributes", "must have 4,096 bytes at most")
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(value)); err != nil || !utf8.ValidString(value) {
		return "", interceptors.InvalidField("user.attributes", "must be empty or one JSON value")
	}
	if err := checkJSON(json.NewDecoder(bytes.NewReader(compact.Bytes())), maxDepth); err != nil {
		return "", interceptors.InvalidField("user.attributes", err.Error())
	}
	return compact.String(), nil
}

// checkJSON reads one value that is known to be JSON.
func checkJSON(decoder *json.Decoder, depth int) error {
	decoder.UseNumber()
	token, err := decoder.Token()
	if err != nil {
		return errors.New("must be JSON")
	}
	open, nested := token.(json.Delim)
	if !nested {
		return nil
	}
	if depth == 0 {
		return errors.New("must not nest deeper than 12")
	}
	seen := map[string]bool{}
	for decoder.More() {
		if open == '{' {
			token, err := decoder.Token()
			key, _ := token.(string)
			if err != nil || seen[key] {
				return errors.New("must not hold a key twice")
			}
			seen[key] = true
		}
		if err := checkJSON(decoder, depth-1); err != nil {
			return err
		}
	}
	_, err = decoder.Token()
	return err
}

// newUser checks the user of a CreateRequest.
func newUser(m *usersv1.User, now time.Time) (user, error) {
	if m == nil {
		return user{}, interceptors.InvalidField("user", "must be given")
	}
	for _, set := range []struct {
		name string
		is   bool
	}{
		{"user.disabled", m.GetDisabled()},
		{"user.create_time", m.GetCreateTime() != nil},
		{"user.update_time", m.GetUpdateTime() != nil},
	} {
		if set.is {
			return user{}, interceptors.InvalidField(set.name, "is set by the server and must be empty")
		}
	}
	if err := checkUsername("user.username", m.GetUsername()); err != nil {
		return user{}, err
	}
	if err := checkDisplayName(m.GetDisplayName()); err != nil {
		return user{}, err
	}
	if err := checkEmail(m.GetEmail()); err != nil {
		return user{}, err
	}
	roles, err := checkRoles("user.roles", m.GetRoles())
	if err != nil {
		return user{}, err
	}
	attributes, err := checkAttributes(m.GetAttributes())
	if err != nil {
		return user{}, err
	}
	return user{
		username: m.GetUsername(), displayName: m.GetDisplayName(), email: m.GetEmail(), created: now, updated: now,
		roles: roles, attributes: attributes,
	}, nil
}

// changes checks an UpdateRequest and returns what it does to a user. What the mask does not name is not looked at.
func changes(m *usersv1.User, mask *fieldmaskpb.FieldMask) (func(*user), error) {
	if err := checkUsername("user.username", m.GetUsername()); err != nil {
		return nil, err
	}
	if len(mask.GetPaths()) == 0 {
		return nil, interceptors.InvalidField("update_mask", "must name at least one of display_name, email and attributes")
	}
	var apply []func(*user)
	for i, path := range mask.GetPaths() {
		switch path {
		case "display_name":
			if err := checkDisplayName(m.GetDisplayName()); err != nil {
				return nil, err
			}
			apply = append(apply, func(u *user) { u.displayName = m.GetDisplayName() })
		case "email":
			if err := checkEmail(m.GetEmail()); err != nil {
				return nil, err
			}
			apply = append(apply, func(u *user) { u.email = m.GetEmail() })
		case "attributes":
			attributes, err := checkAttributes(m.GetAttributes())
			if err != nil {
				return nil, err
			}
			apply = append(apply, func(u *user) { u.attributes = attributes })
		default:
			return nil, interceptors.InvalidField("update_mask.paths["+strconv.Itoa(i)+"]", "must be display_name, email or attributes: nothing else can be changed here")
		}
	}
	return func(u *user) {
		for _, f := range apply {
			f(u)
		}
	}, nil
}
