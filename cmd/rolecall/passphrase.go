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
		return a.readPassphrase(file)
	}
	return a.ask(ctx, "Passphrase of the root in "+dir+": ")
}

// newPassphrase gets the passphrase for a root that is about to be made, at a terminal twice.
func (a *app) newPassphrase(ctx context.Context, dir, file string) (passphrase []byte, err error) {
	if file != "" {
		passphrase, err = a.readPassphrase(file)
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
	first, err := a.ask(ctx, "New passphrase for the root in "+dir+": ")
	if err != nil {
		return nil, err
	}
	second, err := a.ask(ctx, "The same once more: ")
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
func (a *app) ask(ctx context.Context, question string) ([]byte, error) {
	f, ok := a.input().(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, cli.Usagef("there is no terminal to ask for the passphrase at: name a file that holds it with --passphrase-file FILE, or hand it in on standard input with --passphrase-file -")
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
			return nil, fmt.Errorf("read the passphrase: %w", l.err)
		}
		return checkPassphrase(l.text, "what was typed")
	case <-ctx.Done(): // Ctrl-C: nobody else gives the terminal its echo back
		_ = term.Restore(fd, before)
		_, _ = io.WriteString(a.prompt(), "\n")
		return nil, errors.New("interrupted before the passphrase was entered; nothing was done")
	}
}

// readPassphrase reads a file of one line, or standard input.
func (a *app) readPassphrase(file string) ([]byte, error) {
	if file == "-" {
		data, err := io.ReadAll(io.LimitReader(a.input(), maxPassphrase+3))
		if err != nil {
			return nil, fmt.Errorf("read the passphrase from standard input: %w", err)
		}
		return checkPassphrase(bytes.TrimRight(data, "\r\n"), "standard input")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("passphrase file: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("passphrase file: %w", err)
	}
	// A pipe, as a shell's <(...) makes one, has nobody else at its other end.
	if mode := info.Mode(); mode.IsRegular() && runtime.GOOS != "windows" && mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("passphrase file %s has mode %04o, which lets others read it: chmod 600 %s", file, mode.Perm(), cli.Quote(file))
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPassphrase+3))
	if err != nil {
		return nil, fmt.Errorf("passphrase file: %w", err)
	}
	return checkPassphrase(bytes.TrimRight(data, "\r\n"), "passphrase file "+file)
}

func checkPassphrase(text []byte, from string) ([]byte, error) {
	switch {
	case len(text) == 0:
		return nil, fmt.Errorf("%s holds no passphrase", from)
	case len(text) > maxPassphrase:
		clear(text)
		return nil, fmt.Errorf("%s has more than %d bytes: it is no passphrase", from, maxPassphrase)
	case bytes.ContainsAny(text, "\r\n\x00"):
		clear(text)
		return nil, fmt.Errorf("%s has more than one line, or a zero byte: a passphrase is one line of text", from)
	}
	return text, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
