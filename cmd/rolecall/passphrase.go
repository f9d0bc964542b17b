package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/term"

	"example.com/rolecall/internal/cli"
)

const (
	// minPassphrase is the shortest passphrase of a new root, in bytes. A stolen root.key is tried out at leisure.
	minPassphrase = 12
	// maxPassphrase bounds what is read of a passphrase, in bytes.
	maxPassphrase = 1024
)

// passphraseUsage describes the flag --passphrase-file.
const passphraseUsage = `file with the root's passphrase, "-" for standard input (default: ask at the terminal, without echo)`

// secret is something that a person types or a file holds: what it is called, and the flag that names the file.
type secret struct{ name, flag string }

var passphraseOfRoot = secret{"passphrase", "--passphrase-file"}

// input returns standard input.
func (a *app) input() io.Reader {
	if a.in != nil {
		return a.in
	}
	return os.Stdin
}

// prompt returns where questions are asked: not on standard output, which may be a file.
func (a *app) prompt() io.Writer {
	if a.questions != nil {
		return a.questions
	}
	return os.Stderr
}

// rootPassphrase gets the passphrase of the root in dir: from the file, else from the one that `rolecall up` leaves beside
// the root, else from whoever sits at the terminal. The caller clears it after use.
func (a *app) rootPassphrase(ctx context.Context, dir, file string) ([]byte, error) {
	if file == "" {
		if beside := filepath.Join(dir, "passphrase"); exists(beside) {
			file = beside
		}
	}
	if file != "" {
		return a.readSecret(passphraseOfRoot, file)
	}
	return a.ask(ctx, passphraseOfRoot, "Passphrase of the root in "+dir+": ")
}

// newPassphrase gets the passphrase for a root that is about to be made, at a terminal twice.
func (a *app) newPassphrase(ctx context.Context, dir, file string) (passphrase []byte, err error) {
	if file != "" {
		passphrase, err = a.readSecret(passphraseOfRoot, file)
	} else {
		passphrase, err = a.askTwice(ctx, dir)
	}
	if err == nil && len(passphrase) < minPassphrase {
		clear(passphrase)
		return nil, fmt.Errorf("the passphrase has fewer than %d bytes: it is all that stands between a copied root.key and the trust domain; take a longer one", minPassphrase)
	}
	return passphrase, err
}

func (a *app) askTwice(ctx context.Context, dir string) ([]byte, error) {
	first, err := a.ask(ctx, passphraseOfRoot, "New passphrase for the root in "+dir+": ")
	if err != nil {
		return nil, err
	}
	second, err := a.ask(ctx, passphraseOfRoot, "The same once more: ")
	if err != nil {
		clear(first)
		return nil, err
	}
	defer clear(second)
	if !bytes.Equal(first, second) {
		clear(first)
		return nil, errors.New("the two passphrases differ, and nothing was made: start again")
	}
	return first, nil
}

// ask reads a line at the terminal without showing it.
func (a *app) ask(ctx context.Context, what secret, question string) ([]byte, error) {
	f, ok := a.input().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, cli.Usagef("there is no terminal to ask for the %s at: name a file that holds it with %s FILE, or hand it in on standard input with %[2]s -", what.name, what.flag)
	}
	fd := int(f.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return nil, fmt.Errorf("prepare the terminal: %w", err)
	}
	_, _ = io.WriteString(a.prompt(), cli.Clean(question))
	type line struct {
		text []byte
		err  error
	}
	typed := make(chan line, 1)
	go func() {
		text, err := term.ReadPassword(fd)
		typed <- line{text, err}
	}()
	select {
	case l := <-typed:
		_, _ = io.WriteString(a.prompt(), "\n")
		if l.err != nil {
			return nil, fmt.Errorf("read the %s: %w", what.name, l.err)
		}
		return what.check(l.text, "what was typed")
	case <-ctx.Done(): // Ctrl-C: nobody else gives the terminal its echo back
		_ = term.Restore(fd, before)
		_, _ = io.WriteString(a.prompt(), "\n")
		return nil, fmt.Errorf("interrupted before the %s was entered; nothing was done", what.name)
	}
}

// readSecret reads a file of one line, or standard input.
func (a *app) readSecret(what secret, file string) ([]byte, error) {
	if file == "-" {
		data, err := io.ReadAll(io.LimitReader(a.input(), maxPassphrase+3))
		if err != nil {
			return nil, fmt.Errorf("read the %s from standard input: %w", what.name, err)
		}
		return what.check(bytes.TrimRight(data, "\r\n"), "standard input")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what.name, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what.name, err)
	}
	// A pipe, as a shell's <(...) makes one, has nobody else at its other end.
	if mode := info.Mode(); mode.IsRegular() && runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("%s file %s has mode %04o, which lets others read it: chmod 600 %s", what.name, file, mode.Perm(), cli.Quote(file))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase+3))
	if err != nil {
		return nil, fmt.Errorf("%s file: %w", what.name, err)
	}
	return what.check(bytes.TrimRight(data, "\r\n"), what.name+" file "+file)
}

func (s secret) check(text []byte, from string) ([]byte, error) {
	switch {
	case len(text) == 0:
		return nil, fmt.Errorf("%s holds no %s", from, s.name)
	case len(text) > maxPassphrase:
		clear(text)
		return nil, fmt.Errorf("%s has more than %d bytes: it is no %s", from, maxPassphrase, s.name)
	case bytes.ContainsAny(text, "\r\n\x00"):
		clear(text)
		return nil, fmt.Errorf("%s has more than one line, or a zero byte: a %s is one line of text", from, s.name)
	}
	return text, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
