package main

import (
	"fmt"
	"math/big"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/internal/status"
	"example.com/rolecall/pki"
)

// listedIssuers is what `pki issuer list` tells programs.
type listedIssuers struct {
	TrustDomain string             `json:"trust_domain"`
	Issuers     []pki.IssuerStatus `json:"issuers"`
	Act         status.Act         `json:"act"`
	// Unrenewed are those whose newest certificate is by a revoked issuer.
	Unrenewed []status.Unrenewed `json:"unrenewed"`
}

func (a *app) issuerListCommand() *cobra.Command {
	var ca caFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "Show the issuers, and when somebody must act",
		Long: `Shows every issuer with its state, and says in one line when somebody must act, and with which command. After an issuer was
revoked it names those who have not renewed their certificates since, as far as the record tells.

Ends with 1 if that is due: from 48 hours, or a quarter of an issuer's life, before nothing could be signed any more.`,
		Example: `  rolecall pki issuer list
  rolecall pki issuer list --ca /var/lib/authority -o json | jq .act`,
		Args: cobra.NoArgs,
	}
	ca.add(c)
	output := outputFlag(c, "table", "json")
	c.RunE = func(*cobra.Command, []string) error {
		issuers, folder, err := ca.open()
		if err != nil {
			return err
		}
		now := time.Now()
		list := listedIssuers{TrustDomain: issuers.TrustDomain().Name(), Issuers: issuers.Status(), Act: status.NewAct(issuers, folder, now)}
		if list.Issuers == nil {
			list.Issuers = []pki.IssuerStatus{}
		}
		if list.Unrenewed, err = status.FindUnrenewed(issuers, now); err != nil {
			return err
		}
		if output.value == "json" {
			err = a.out.JSON(list)
		} else {
			a.writeIssuers(list, now)
		}
		if err == nil && list.Act.Must {
			err = cli.ErrReported
		}
		return err
	}
	return c
}

func (a *app) writeIssuers(list listedIssuers, now time.Time) {
	table := cli.Table{Header: []string{"ISSUER", "STATE", "SIGNS FROM", "SUCCESSOR DUE", "ENDS", "KEY SHA-256", "ROOT SHA-256"}}
	for _, i := range list.Issuers {
		from, due := "-", "-"
		if !i.ActiveFrom.IsZero() {
			from = i.ActiveFrom.Local().Format(time.DateTime)
		}
		if i.State != pki.Retired && i.State != pki.Revoked {
			due = i.PrepareNext.Local().Format(time.DateTime)
		}
		root := "-"
		if !i.RootSHA256.IsZero() {
			root = i.RootSHA256.String()[:12]
		}
		table.Add(strconv.Itoa(i.Generation), string(i.State), from, due, i.NotAfter.Local().Format(time.DateTime), i.KeySHA256.String()[:12], root)
	}
	if table.Len() > 0 {
		table.Write(a.out)
	}
	for _, u := range list.Unrenewed {
		a.out.Printf("%s %s has not renewed since issuer %d was revoked (asked for by %s, until %s)\n", a.out.Yellow("!"), cli.Clean(u.SPIFFEID), u.Issuer,
			cli.Clean(u.Requester), u.NotAfter.Local().Format(time.DateTime))
	}
	mark := a.out.Green("✓")
	if list.Act.Must {
		mark = a.out.Red("!")
	}
	a.out.Printf("%s %s\n", mark, list.Act.String(now))
}

// parseGeneration reads the number of an issuer.
func parseGeneration(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, cli.Usagef("issuer %q: the number that 'rolecall pki issuer list' shows is needed", text)
	}
	return n, nil
}

func (a *app) issuerActivateCommand() *cobra.Command {
	var ca caFlags
	c := &cobra.Command{
		Use:   "activate N",
		Short: "Let a prepared issuer sign from now on",
		Long: `Lets an issuer that is PREPARED sign at once, before its turn: to see that it works, or because the one that signs is not to
be trusted. What was signed before stays good. The authority follows within seconds.`,
		Example: `  rolecall pki issuer activate 7 --ca /var/lib/authority`,
		Args:    cobra.ExactArgs(1),
	}
	ca.add(c)
	c.RunE = func(_ *cobra.Command, args []string) error {
		generation, err := parseGeneration(args[0])
		if err != nil {
			return err
		}
		issuers, _, err := ca.open()
		if err != nil {
			return err
		}
		i, err := issuers.Activate(generation)
		if err != nil {
			return err
		}
		a.out.Printf("%s issuer %d is %s, until %s\n", a.out.Green("✓"), i.Generation, i.State, i.NotAfter.Local().Format(time.DateTime))
		return nil
	}
	return c
}

func (a *app) issuerRevokeCommand() *cobra.Command {
	var ca caFlags
	var reason, root, crl, passphraseFile string
	c := &cobra.Command{
		Use:   "revoke N --reason TEXT",
		Short: "Stop an issuer for good, and have everything under it renewed",
		Long: `Stops an issuer whose key is not to be trusted any more: the key is deleted, another issuer signs, and every workload renews
its certificate at once. Then, with the snippet that is shown, deny its key in roles.yaml, so that what was signed with it is
refused everywhere.

With --crl, and the root at hand, a list of revoked issuers is signed as well, for verifiers outside of the mesh. For
verifiers that know neither, replace the root: 'rolecall pki root rotate'.`,
		Example: `  rolecall pki issuer revoke 6 --reason "backup of the authority left in a taxi"
  rolecall pki issuer revoke 6 --reason "key read by an intruder" --ca /var/lib/authority --root /media/root --crl crl.pem`,
		Args: cobra.ExactArgs(1),
	}
	f := c.Flags()
	f.StringVar(&reason, "reason", "", "why, one line for whoever asks later (needed)")
	f.StringVar(&root, "root", "", "folder of the root that signed the issuer, for --crl (default: the one beside the authority's folder)")
	f.StringVar(&crl, "crl", "", "file for the list of revoked issuers, in PEM")
	f.StringVar(&passphraseFile, "passphrase-file", "", passphraseUsage)
	ca.add(c)
	needed(c, "reason")
	c.RunE = func(c *cobra.Command, args []string) error {
		generation, err := parseGeneration(args[0])
		if err != nil {
			return err
		}
		if (root != "" || passphraseFile != "") && crl == "" {
			return cli.Usagef("--root and --passphrase-file are for the list of revoked issuers: name its file with --crl")
		}
		issuers, folder, err := ca.open()
		if err != nil {
			return err
		}
		if beside, ok := rootBeside(folder); root == "" && crl != "" {
			if !ok {
				return cli.Usagef("--crl needs the root that signed the issuer, and none lies in %s: name its folder with --root", beside)
			}
			root = beside
		}
		i, err := issuers.Revoke(generation, reason)
		if err != nil {
			return err
		}
		a.out.Printf("%s issuer %d is %s, and its key is deleted\n", a.out.Green("✓"), i.Generation, i.State)
		a.showRevoked(&ca, issuers, folder, i, reason)
		if crl == "" {
			return nil
		}
		signer, err := a.openRoot(c.Context(), root, passphraseFile)
		if err != nil {
			return fmt.Errorf("the issuer is revoked, and no list was signed: %w", err)
		}
		return a.signCRL(signer, issuers, folder, crl)
	}
	return c
}

// showRevoked says what is left to do.
func (a *app) showRevoked(ca *caFlags, issuers *pki.Issuers, folder string, i pki.IssuerStatus, reason string) {
	for _, r := range issuers.Revoked() {
		if r.Generation == i.Generation {
			reason = r.Reason // the first one stays
		}
	}
	if !slices.ContainsFunc(issuers.Status(), func(i pki.IssuerStatus) bool { return i.State == pki.Active }) {
		next := "'rolecall up' has the root sign the next one within a minute"
		if act := status.NewAct(issuers, folder, time.Now()); act.ByHand {
			next = act.String(time.Now())
		}
		a.out.Printf("%s no issuer can sign now: %s\n", a.out.Yellow("!"), next)
	}
	a.out.Printf(`
Workloads renew their certificates now, within seconds. '%s' names those that have not yet, and
'rolecall status' shows whose certificate each process shows (column ISSUER). When issuer %d is in neither, deny its key in
roles.yaml. Before that, whoever has not renewed would be refused.

denied:
  - keySha256: %s
    reason: %s

`, command(append([]string{"pki", "issuer", "list"}, ca.flag()...)...), i.Generation, i.KeySHA256, yamlString(fmt.Sprintf("issuer %d revoked: %s", i.Generation, reason)))
}

// yamlString writes text as a YAML scalar in double quotes, which JSON's are.
func yamlString(text string) string { return strconv.Quote(text) }

// signCRL writes the list of everything that was revoked to a file, and beside the authority's own files.
func (a *app) signCRL(root *pki.Root, issuers *pki.Issuers, folder, path string) error {
	revoked, now := issuers.Revoked(), time.Now()
	// It has to be known for as long as one of the revoked issuers would live.
	next := now.Add(pki.DefaultIssuerLife)
	for _, r := range revoked {
		if r.Certificate.NotAfter.After(next) {
			next = r.Certificate.NotAfter
		}
	}
	der, err := root.SignCRL(revoked, big.NewInt(now.UnixMilli()), next)
	if err != nil {
		return fmt.Errorf("the issuer is revoked, and no list was signed: %w", err)
	}
	list := pki.EncodeCRL(der)
	for _, file := range []string{path, filepath.Join(folder, "crl.pem")} {
		if err := mesh.WriteFile(file, list, 0o644); err != nil {
			return err
		}
	}
	a.out.Printf("%s list of %d revoked issuers: %s; give it to verifiers outside of the mesh, and sign a new one before %s\n", a.out.Green("✓"),
		len(revoked), path, next.Local().Format(time.DateTime))
	return nil
}
