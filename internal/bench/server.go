package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// A Server is a team server in a process of its own, on loopback, which can be
// ended and started again at the same address.
type Server struct {
	Dir     string // its entries; its log is in Dir.log
	larderd string
	address string

	mu  sync.Mutex
	cmd *exec.Cmd
}

// StartServer starts larderd, a program, with its entries in dir, at an address on
// loopback: that of a free port if that is 0.
func StartServer(ctx context.Context, larderd, dir, address string) (*Server, error) {
	s := &Server{Dir: dir, larderd: larderd, address: address}
	return s, s.Start(ctx)
}

// Addr is where it listens, host:port.
func (s *Server) Addr() string { return s.address }

// Start starts it again after Stop or Kill, and returns when it listens.
func (s *Server) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	addrFile := s.Dir + ".addr"
	if err := os.Remove(addrFile); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	log, err := os.OpenFile(s.Dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(s.larderd, "serve", "-listen", s.address, "-dir", s.Dir, "-addr-file", addrFile)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the server: %w", err)
	}
	s.cmd = cmd
	const limit, poll = 30 * time.Second, 10 * time.Millisecond
	for begin := time.Now(); ; time.Sleep(poll) {
		if text, err := os.ReadFile(addrFile); err == nil {
			s.address = strings.TrimSpace(string(text))
			return nil
		}
		if time.Since(begin) > limit || ctx.Err() != nil {
			cmd.Process.Kill()
			cmd.Wait()
			return fmt.Errorf("start the server: it does not listen after %v; see %s.log", limit, s.Dir)
		}
	}
}

// Stop ends the server as a service manager does.
func (s *Server) Stop() error { return s.end(os.Interrupt) }

// Kill ends it as nobody should.
func (s *Server) Kill() error { return s.end(os.Kill) }

func (s *Server) end(signal os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return nil
	}
	err := s.cmd.Process.Signal(signal)
	waited := s.cmd.Wait()
	s.cmd = nil
	if signal == os.Kill {
		return err
	}
	return errors.Join(err, waited)
}
