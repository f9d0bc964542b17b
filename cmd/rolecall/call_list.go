package main

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"example.com/rolecall/internal/call"
	"example.com/rolecall/internal/cli"
)

// listed is a method, for programs.
type listed struct {
	Method      string   `json:"method"` // what `rolecall call` takes
	Full        string   `json:"full"`
	Request     string   `json:"request"`
	Response    string   `json:"response"`
	Requests    string   `json:"requests"`  // "one" or "stream"
	Responses   string   `json:"responses"` // "one" or "stream"
	Roles       []string `json:"roles"`
	AnyWorkload bool     `json:"any_workload"`
	UserRoles   []string `json:"user_roles"`
	User        bool     `json:"user"`
	Proof       bool     `json:"proof"`
	ExactlyOnce bool     `json:"exactly_once"`
}

// list shows methods, and what they require.
func (r *callRun) list(services []call.Service) error {
	all := []listed{}
	if r.flags.sign || len(r.flags.data)+len(r.flags.signed) > 0 {
		return cli.Usagef("there is no method to call: name one, SERVICE/METHOD; 'rolecall call' alone lists all")
	}
	table := &cli.Table{Header: []string{"METHOD", "REQUIRES"}}
	for _, s := range services {
		for _, m := range s.Methods() {
			d, q := m.Descriptor, m.Requires
			all = append(all, listed{
				Method: m.Short(), Full: m.Full(), Request: string(d.Input().FullName()), Response: string(d.Output().FullName()),
				Requests: number(d.IsStreamingClient()), Responses: number(d.IsStreamingServer()),
				Roles: some(q.Roles), AnyWorkload: q.AnyWorkload, UserRoles: some(q.UserRoles), User: q.User, Proof: q.Proof, ExactlyOnce: q.ExactlyOnce,
			})
			table.Add(cli.Clean(m.Short()), cli.Clean(q.String()+streams(d)))
		}
	}
	if r.json {
		return r.app.out.JSON(all)
	}
	table.Write(r.app.out)
	return nil
}

// streams says what there may be many of.
func streams(d protoreflect.MethodDescriptor) string {
	switch {
	case d.IsStreamingClient() && d.IsStreamingServer():
		return ", streams of requests and answers"
	case d.IsStreamingClient():
		return ", stream of requests"
	case d.IsStreamingServer():
		return ", stream of answers"
	}
	return ""
}

func number(stream bool) string {
	if stream {
		return "stream"
	}
	return "one"
}

// some is never nil, so that programs always find a list.
func some(s []string) []string { return append([]string{}, s...) }
