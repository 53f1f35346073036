package cacheprog

import (
	"fmt"
	"strings"
)

// SplitCommand splits a command as the go command splits GOCACHEPROG (cmd/internal/quoted/quoted.go): fields are separated by
// spaces, tabs and line ends; a field that starts with a single or a double quote ends at the next such quote; nothing is escaped.
// So a quote within a field is a character like any other, and what follows a closing quote starts a new field.
func SplitCommand(s string) ([]string, error) {
	var fields []string
	for {
		s = strings.TrimLeft(s, " \t\r\n")
		if s == "" {
			return fields, nil
		}
		var end, after int
		if quote := s[0]; quote == '"' || quote == '\'' {
			s = s[1:]
			end = strings.IndexByte(s, quote)
			if end < 0 {
				return nil, fmt.Errorf("split command: no closing %c", quote)
			}
			after = end + 1
		} else {
			end = strings.IndexAny(s, " \t\r\n")
			if end < 0 {
				end = len(s)
			}
			after = end
		}
		fields = append(fields, s[:end])
		s = s[after:]
	}
}

// JoinCommand is the reverse of [SplitCommand]: it quotes the arguments that need it. An argument that has both kinds of quotes can
// be written only if it has no space and does not start with a quote; otherwise it is an error. Unlike the go command's own, it keeps
// empty arguments.
func JoinCommand(args []string) (string, error) {
	var b strings.Builder
	for i, arg := range args {
		if i > 0 {
			b.WriteByte(' ')
		}
		quote := ""
		switch {
		case arg != "" && !strings.ContainsAny(arg, " \t\r\n\"'"):
		case !strings.Contains(arg, "'"):
			quote = "'"
		case !strings.Contains(arg, `"`):
			quote = `"`
		case strings.ContainsAny(arg, " \t\r\n") || arg[0] == '"' || arg[0] == '\'':
			return "", fmt.Errorf("join command: %q has both kinds of quotes, which the go command cannot read", arg)
		}
		b.WriteString(quote)
		b.WriteString(arg)
		b.WriteString(quote)
	}
	return b.String(), nil
}
