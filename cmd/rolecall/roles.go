package main

import (
	"slices"

	"github.com/spf13/cobra"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/access"
	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/mesh"
)

func (a *app) rolesCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "roles",
		Short: "Show who may call what, and check an edit of roles.yaml",
		Long: `Holds a roles.yaml against the services that it is for: which roles a method requires is in its .proto file, who holds them
in roles.yaml. No server is asked.`,
		Example: `  rolecall roles matrix
  rolecall roles check --roles new.yaml`,
		Args: subcommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(a.rolesMatrixCommand(), a.rolesCheckCommand())
	return c
}

// policyFlags say which bindings to read, and for which services.
type policyFlags struct {
	roles       string
	dir         *string
	descriptors []string
}

func (p *policyFlags) add(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&p.roles, "roles", "", "path of roles.yaml (default: that of the mesh in --dir)")
	f.StringArrayVar(&p.descriptors, "descriptors", nil, "more services, from a FileDescriptorSet as 'buf build -o FILE.binpb' writes it; once for each")
	p.dir = dirFlag(c)
	c.MarkFlagsMutuallyExclusive("roles", "dir")
}

// read returns the path of the bindings too.
func (p *policyFlags) read() (string, *interceptors.Policy, error) {
	path := p.roles
	if path == "" {
		d, err := mesh.Open(*p.dir)
		if err != nil {
			return "", nil, err
		}
		path = d.Roles()
	}
	policy, err := access.Read(path, p.descriptors)
	return path, policy, err
}

func (a *app) rolesMatrixCommand() *cobra.Command {
	var flags policyFlags
	c := &cobra.Command{
		Use:   "matrix",
		Short: "Show who may call which method",
		Long:  `Shows each method, what it requires, and which members of the bindings hold all of that.`,
		Example: `  rolecall roles matrix
  rolecall roles matrix --roles roles.yaml -o markdown >access.md`,
		Args: cobra.NoArgs,
	}
	flags.add(c)
	output := outputFlag(c, "table", "json", "markdown")
	c.RunE = func(*cobra.Command, []string) error {
		_, policy, err := flags.read()
		if err != nil {
			return err
		}
		matrix := access.NewMatrix(policy)
		if output.value == "json" {
			return a.out.JSON(matrix)
		}
		a.writeTable(matrix.Table(), output)
		return nil
	}
	return c
}

func (a *app) rolesCheckCommand() *cobra.Command {
	var flags policyFlags
	c := &cobra.Command{
		Use:   "check",
		Short: "Say what is wrong with a roles.yaml, before a server reads it",
		Long: `Reads a roles.yaml as a server would, and says what its author may not have meant, each with its line.

Ends with 1 if the file cannot be read, as servers would go on with the last one that could, and if there is a mistake: a
binding for a role that no service defines (role-unknown), or one that a member has already (member-duplicate), which
stays in force when the other is taken away. Everything else is a notice: a role that nobody holds (role-unheld), a method
that nobody can call (method-unreachable), a member of another trust domain (member-foreign) or one that is denied
(member-denied). Services of your own are known by --descriptors.`,
		Example: `  rolecall roles check
  buf build -o services.binpb && rolecall roles check --roles new.yaml --descriptors services.binpb`,
		Args: cobra.NoArgs,
	}
	flags.add(c)
	output := outputFlag(c, "table", "json", "markdown")
	c.RunE = func(*cobra.Command, []string) error {
		path, policy, err := flags.read()
		if err != nil {
			return err
		}
		check := access.NewCheck(path, policy)
		if output.value == "json" {
			err = a.out.JSON(check)
		} else {
			a.writeCheck(check, output)
			if unknown := func(f access.Finding) bool { return f.Kind == "role-unknown" }; flags.descriptors == nil && slices.ContainsFunc(check.Findings, unknown) {
				a.out.Println("A service of your own is known by --descriptors services.binpb, which 'buf build -o services.binpb' writes.")
			}
		}
		if err == nil && check.Mistakes > 0 {
			err = cli.ErrReported
		}
		return err
	}
	return c
}

func (a *app) writeCheck(check *access.Check, output *format) {
	if table := check.Table(); table.Len() > 0 {
		a.writeTable(table, output)
		a.out.Println()
	}
	verdict := a.out.Green("no mistake")
	if check.Mistakes > 0 {
		verdict = a.out.Red("mistakes: see above")
	}
	a.out.Printf("%s, policy %s: %d methods, %d members; %s\n", check.TrustDomain, check.PolicyVersion, check.Methods, check.Members, verdict)
}

func (a *app) writeTable(table *cli.Table, output *format) {
	if output.value == "markdown" {
		table.Markdown(a.out)
		return
	}
	table.Write(a.out)
}
