package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"example.com/rolecall/internal/cli"
	"example.com/rolecall/internal/session"
)

// passwordOfUser is what users log in with.
var passwordOfUser = secret{"password", "--password-file"}

func (a *app) loginCommand() *cobra.Command {
	var flags sessionFlags
	var passwordFile string
	var roles []string
	c := &cobra.Command{
		Use:   "login [USER]",
		Short: "Log a user in, and print an access token",
		Long: `Logs a user in through the certificate of an operator, keeps the session in a file of mode 0600, and prints the access
token, and nothing else, on standard output. Without USER it prints an access token of the session that is there, fresh
enough for a call: the session is refreshed by itself.

The token carries the roles of the user, or those of them that --role names. A session ends with 'rolecall logout', after 30
days without use, and after 90 in any case; also when its refresh token is used twice, as after a theft.`,
		Example: `  rolecall login dave --as bob
  rolecall login dave --role orders.customer --password-file - <password
  grpcurl -H "authorization: Bearer $(rolecall login)" ... users.v1.UsersService/GetSelf
  rolecall login dave --tokens dns:///tokens:7444,spiffe://mesh.local/service/tokens --cert bob.crt --key bob.key --bundle bundle.pem`,
		Args: cobra.MaximumNArgs(1),
	}
	f := c.Flags()
	f.StringVar(&passwordFile, "password-file", "", `file with the user's password, "-" for standard input (default: ask at the terminal, without echo)`)
	f.StringArrayVar(&roles, "role", nil, "role that the tokens are to carry; once for each (default: all that the user holds)")
	flags.add(c)
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		if len(args) == 0 {
			if passwordFile != "" || roles != nil {
				return cli.Usagef("--password-file and --role are for whoever logs in: name the USER")
			}
			return a.freshToken(c.Context(), &flags)
		}
		return a.login(c.Context(), &flags, args[0], passwordFile, roles)
	}
	return c
}

// freshToken prints an access token of the session that is there.
func (a *app) freshToken(ctx context.Context, flags *sessionFlags) error {
	open, err := flags.open(true)
	if err != nil {
		return err
	}
	defer open.close()
	ctx, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	tokens, err := open.session.Fresh(ctx)
	if err != nil {
		return err
	}
	a.out.Println(tokens.AccessToken)
	return nil
}

func (a *app) login(ctx context.Context, flags *sessionFlags, username, passwordFile string, roles []string) error {
	open, err := flags.open(false)
	if err != nil {
		return err
	}
	defer open.close()
	typed, err := a.password(ctx, username, passwordFile)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, flags.timeout)
	defer cancel()
	tokens, err := open.session.Login(ctx, username, string(typed), open.id, roles)
	clear(typed)
	if err != nil {
		return err
	}
	a.tellLogin(tokens, roles, open.path)
	a.out.Println(tokens.AccessToken)
	return nil
}

// password gets a user's password: from the file, else from whoever sits at the terminal. The caller clears it after use.
func (a *app) password(ctx context.Context, username, file string) ([]byte, error) {
	if file != "" {
		return a.readSecret(passwordOfUser, file)
	}
	return a.ask(ctx, passwordOfUser, "Password of "+username+": ")
}

// tellLogin says on standard error, for standard output is a program's, what the session may do.
func (a *app) tellLogin(tokens session.Tokens, asked []string, path string) {
	held := strings.Join(tokens.Roles, ", ")
	if held == "" {
		held = "no role"
	}
	say := func(format string, args ...any) {
		_, _ = io.WriteString(a.prompt(), cli.Clean(fmt.Sprintf(format, args...))+"\n")
	}
	say("%s is logged in with %s, until %s if not used; session in %s", tokens.Username, held, tokens.RefreshExpires.Local().Format(time.DateTime), path)
	for _, role := range asked {
		if !slices.Contains(tokens.Roles, role) {
			say("%s does not hold %s: the token does not carry it", tokens.Username, role)
		}
	}
}

func (a *app) logoutCommand() *cobra.Command {
	var flags sessionFlags
	var everywhere bool
	c := &cobra.Command{
		Use:   "logout",
		Short: "End the session of the user who is logged in",
		Long: `Ends the session that 'rolecall login' keeps, and removes its file. Access tokens that it has given are refused by every
service within a second. With --everywhere all sessions of the user end, on other machines too.`,
		Example: `  rolecall logout
  rolecall logout --everywhere`,
		Args: cobra.NoArgs,
	}
	c.Flags().BoolVar(&everywhere, "everywhere", false, "end all sessions of the user")
	flags.add(c)
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := flags.check(); err != nil {
			return err
		}
		open, err := flags.open(true)
		if err != nil {
			return err
		}
		defer open.close()
		ctx, cancel := context.WithTimeout(c.Context(), flags.timeout)
		defer cancel()
		username, err := open.session.Logout(ctx, everywhere)
		if err != nil {
			return err
		}
		where := ""
		if everywhere {
			where = ", everywhere"
		}
		a.out.Printf("%s is logged out%s\n", cli.Clean(username), where)
		return nil
	}
	return c
}
