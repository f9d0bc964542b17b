package users

import (
	"net/mail"
	"regexp"
	"strconv"
	"time"

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
	return user{username: m.GetUsername(), displayName: m.GetDisplayName(), email: m.GetEmail(), created: now, updated: now}, nil
}

// changes checks an UpdateRequest and returns what it does to a user. What the mask does not name is not looked at.
func changes(m *usersv1.User, mask *fieldmaskpb.FieldMask) (func(*user), error) {
	if err := checkUsername("user.username", m.GetUsername()); err != nil {
		return nil, err
	}
	if len(mask.GetPaths()) == 0 {
		return nil, interceptors.InvalidField("update_mask", "must name display_name, email or both")
	}
	var displayName, email bool
	for i, path := range mask.GetPaths() {
		switch path {
		case "display_name":
			displayName = true
		case "email":
			email = true
		default:
			return nil, interceptors.InvalidField("update_mask.paths["+strconv.Itoa(i)+"]", "must be display_name or email: nothing else can be changed")
		}
	}
	if displayName {
		if err := checkDisplayName(m.GetDisplayName()); err != nil {
			return nil, err
		}
	}
	if email {
		if err := checkEmail(m.GetEmail()); err != nil {
			return nil, err
		}
	}
	return func(u *user) {
		if displayName {
			u.displayName = m.GetDisplayName()
		}
		if email {
			u.email = m.GetEmail()
		}
	}, nil
}
