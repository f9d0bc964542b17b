package call

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// maxNear bounds how many names are proposed.
const maxNear = 5

// UnknownError says that no method, or no service, has a name.
type UnknownError struct {
	Name string
	// Near are names that may have been meant, which may be none.
	Near []string
	// Among are the methods that share the name, where that is what is wrong.
	Among []string
}

// Error implements error.
func (e *UnknownError) Error() string {
	switch {
	case len(e.Among) > 0:
		return fmt.Sprintf("%s is the name of several: one of %s", e.Name, strings.Join(e.Among, ", "))
	case len(e.Near) > 0:
		return fmt.Sprintf("no method %s is known; near it: %s", e.Name, strings.Join(e.Near, ", "))
	}
	return fmt.Sprintf("no method %s is known", e.Name)
}

// FindService returns the service of a name: in full, "ledger.v1.LedgerService", its last part, or the name of its server.
func FindService(services []Service, name string) (Service, error) {
	name = strings.Trim(name, "/")
	var found []Service
	for _, s := range services {
		if s.named(name) {
			found = append(found, s)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return Service{}, &UnknownError{Name: name}
	}
	e := &UnknownError{Name: name}
	for _, s := range found {
		e.Among = append(e.Among, string(s.Descriptor.FullName()))
	}
	return Service{}, e
}

func (s Service) named(name string) bool {
	return name != "" && (name == string(s.Descriptor.FullName()) || name == string(s.Descriptor.Name()) || name == s.Server)
}

// Split takes SERVICE/METHOD apart, also with a slash before it or a dot in the middle. The method is empty in the name of a
// service alone.
func Split(name string) (service, method string) {
	name = strings.TrimPrefix(name, "/")
	if i := strings.LastIndex(name, "/"); i >= 0 {
		return name[:i], name[i+1:]
	}
	// ledger.v1.LedgerService has dots too; whoever calls asks whether it is a service first.
	if i := strings.LastIndex(name, "."); i >= 0 {
		return name[:i], name[i+1:]
	}
	return name, ""
}

// Find returns the method of a name; the error is an *UnknownError that tells of near ones.
func Find(services []Service, name string) (Method, error) {
	service, method := Split(name)
	s, err := FindService(services, service)
	if err != nil {
		return Method{}, unknown(services, name)
	}
	for _, m := range s.Methods() {
		if string(m.Descriptor.Name()) == method {
			return m, nil
		}
	}
	return Method{}, unknown(services, name)
}

func unknown(services []Service, name string) *UnknownError {
	e := &UnknownError{Name: name}
	service, method := Split(name)
	if s, err := FindService(services, service); err != nil && len(err.(*UnknownError).Among) > 0 {
		e.Name, e.Among = service, err.(*UnknownError).Among
		return e
	} else if err == nil {
		services = []Service{s}
	}
	type candidate struct {
		short    string
		distance int
	}
	var all []candidate
	for _, s := range services {
		apart := min(distance(service, s.Server), distance(service, string(s.Descriptor.Name())), distance(service, string(s.Descriptor.FullName())))
		if method == "" { // of a service, or the method alone
			all = append(all, candidate{cmp.Or(s.Server, string(s.Descriptor.FullName())), apart})
		}
		for _, m := range s.Methods() {
			d := distance(cmp.Or(method, service), string(m.Descriptor.Name()))
			if method != "" && len(services) > 1 {
				d += apart
			}
			all = append(all, candidate{m.Short(), d})
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return a.distance - b.distance })
	for _, c := range all[:min(len(all), maxNear)] {
		if c.distance <= len(name)/2 {
			e.Near = append(e.Near, c.short)
		}
	}
	return e
}

// distance is the Levenshtein distance of two names, upper and lower case being one.
func distance(a, b string) int {
	a, b = strings.ToLower(a), strings.ToLower(b)
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := before
			if a[i] != b[j] {
				cost++
			}
			before = row[j+1]
			row[j+1] = min(cost, row[j]+1, before+1)
		}
	}
	return row[len(b)]
}
