package status

import (
	"strconv"
	"strings"
	"time"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/pki"
)

// Write shows the report to people.
func (r *Report) Write(out *cli.Output) {
	if r.Running {
		out.Printf("%s is up for %s, run by process %d, in %s\n\n", out.Bold(r.TrustDomain), cli.Span(r.Time.Sub(r.Started)), r.PID, r.Dir)
	} else {
		out.Printf("the mesh in %s is not up\n\n", r.Dir)
	}
	for _, table := range []*cli.Table{r.processTable(out), r.programTable(), r.operatorTable(out), r.issuerTable(out)} {
		if table.Len() > 0 {
			table.Write(out)
			out.Println()
		}
	}
	r.writeRotation(out)
	if r.OK() {
		out.Printf("%s %s\n", out.Green("✓"), cli.Clean(r.Act.String(r.Time)))
		return
	}
	out.Printf("%s\n", out.Red("Somebody must act:"))
	for _, p := range r.Problems {
		out.Printf("  %s: %s\n      %s %s\n", out.Bold(cli.Clean(p.About)), cli.Clean(p.What), out.Dim("→"), cli.Clean(p.Do))
	}
}

func (r *Report) processTable(out *cli.Output) *cli.Table {
	t := &cli.Table{Header: []string{"PROCESS", "PID", "STATE", "CERTIFICATE", "ISSUER", "POLICY", "RESTARTS", "AUDIT LOST", "ADDRESS"}}
	for _, p := range r.Processes {
		state := out.Red(p.State)
		if p.State == serving || p.State == Answers {
			state = out.Green(p.State)
		}
		policy, dropped := p.PolicyVersion, "-"
		if policy == "" {
			policy = "-"
		} else {
			dropped = strconv.FormatUint(p.AuditDropped, 10)
		}
		if p.PolicyError != "" {
			policy = out.Red(policy + " stale")
		}
		issuer := "-"
		if p.Issuer > 0 {
			issuer = strconv.Itoa(p.Issuer)
		}
		t.Add(p.Name, strconv.Itoa(p.PID), state, r.left(p.CertificateNotAfter), issuer, policy, strconv.Itoa(p.Restarts), dropped, p.Address)
	}
	return t
}

func (r *Report) programTable() *cli.Table {
	t := &cli.Table{Header: []string{"PROGRAM", "PID", "CERTIFICATE", "COMMAND"}}
	for _, p := range r.Programs {
		command := cli.Clean(cli.Quote(p.Command...))
		if short := []rune(command); len(short) > 60 {
			command = string(short[:59]) + "…"
		}
		t.Add(r.short(p.SPIFFEID), strconv.Itoa(p.PID), r.left(p.CertificateNotAfter), command)
	}
	return t
}

func (r *Report) operatorTable(out *cli.Output) *cli.Table {
	t := &cli.Table{Header: []string{"OPERATOR", "CERTIFICATE", "ROLES"}}
	for _, o := range r.Operators {
		roles := strings.Join(o.Roles, " ")
		if roles == "" {
			roles = out.Dim("none")
		}
		t.Add(o.Name, r.left(o.CertificateNotAfter), roles)
	}
	return t
}

func (r *Report) issuerTable(out *cli.Output) *cli.Table {
	t := &cli.Table{Header: []string{"ISSUER", "STATE", "CERTIFICATE", "SUCCESSOR DUE"}}
	for _, i := range r.Issuers {
		state := string(i.State)
		switch i.State {
		case pki.Active:
			state = out.Green(state)
		case pki.Revoked:
			state = out.Red(state)
		}
		due := "-"
		if i.State != pki.Retired && i.State != pki.Revoked {
			due = r.left(i.PrepareNext)
		}
		t.Add("generation "+strconv.Itoa(i.Generation), state, r.left(i.NotAfter), due)
	}
	if !r.RootNotAfter.IsZero() {
		state := "at hand"
		if !r.Act.RootAtHand {
			state = "not at hand"
		}
		t.Add("root", state, r.left(r.RootNotAfter), "-")
	}
	return t
}

// writeRotation says how far the replacement of the root is.
func (r *Report) writeRotation(out *cli.Output) {
	if r.Rotation == nil {
		return
	}
	what := "the new root is in the bundle, and signs nothing yet"
	if r.Rotation.Phase == pki.RotationActivated {
		what = "the new root signs since " + r.Rotation.ActivatedAt.Local().Format(time.DateTime) + ", and the old one is still trusted"
	}
	out.Printf("The root is being replaced: %s. Next: %s\n\n", what, r.Rotation.Next)
}

// left says how long it is until a moment.
func (r *Report) left(moment time.Time) string {
	switch d := moment.Sub(r.Time); {
	case moment.IsZero():
		return "-"
	case d < 0:
		return cli.Span(-d) + " ago"
	default:
		return cli.Span(d)
	}
}

// short drops the trust domain of an ID.
func (r *Report) short(id string) string { return strings.TrimPrefix(id, "spiffe://"+r.TrustDomain) }
