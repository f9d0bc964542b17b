package call

import (
	"slices"
	"strings"
)

// maxNear bounds how many names are proposed.
const maxNear = 5

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
		for _, m := range s.Methods() {
			d := distance(method, string(m.Descriptor.Name()))
			if len(services) > 1 {
				d += min(distance(service, s.Server), distance(service, string(s.Descriptor.Name())), distance(service, string(s.Descriptor.FullName())))
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
