package cli

import (
	"flag"
	"fmt"
	"strings"
)

// completion prints the completion script for a shell. The scripts are made
// from the commands themselves, so they cannot go stale.
func (a *App) completion(args []string) error {
	scripts := map[string]func() string{"bash": a.bash, "zsh": a.zsh, "fish": a.fish}
	if len(args) == 1 && (args[0] == "-h" || args[0] == "-help" || args[0] == "--help") {
		fmt.Fprintf(a.Stdout, "Usage:\n  %[1]s completion bash|zsh|fish\n\nFor bash, add to ~/.bashrc:  eval \"$(%[1]s completion bash)\"\n", a.Name)
		return nil
	}
	if len(args) != 1 || scripts[args[0]] == nil {
		return &UsageError{"name a shell: bash, zsh or fish"}
	}
	fmt.Fprint(a.Stdout, scripts[args[0]]())
	return nil
}

// flags are the names of c's flags, with their hyphens.
func flags(c Command) (names []string) {
	fs := flag.NewFlagSet(c.Name, flag.ContinueOnError)
	c.Setup(fs)
	fs.VisitAll(func(f *flag.Flag) { names = append(names, "-"+f.Name) })
	return append(names, "-h")
}

func (a *App) names() (names []string) {
	for _, c := range a.Commands {
		names = append(names, c.Name)
	}
	return append(names, "completion", "help")
}

func (a *App) bash() string {
	var cases strings.Builder
	for _, c := range a.Commands {
		fmt.Fprintf(&cases, "    %s) words=%q ;;\n", c.Name, strings.Join(flags(c), " "))
	}
	return fmt.Sprintf(`# bash completion for %[1]s
_%[1]s() {
  local words= cur=${COMP_WORDS[COMP_CWORD]} i
  for ((i = 1; i < COMP_CWORD; i++)); do
    # after "--" comes another command, completed as usual
    [[ ${COMP_WORDS[i]} == -- ]] && return
  done
  case $COMP_CWORD in
  1) words=%[2]q ;;
  *) case ${COMP_WORDS[1]} in
%[3]s    completion) words="bash zsh fish" ;;
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _%[1]s %[1]s
`, a.Name, strings.Join(a.names(), " "), cases.String())
}

func (a *App) zsh() string {
	return fmt.Sprintf("#compdef %s\nautoload -Uz bashcompinit && bashcompinit\n%s", a.Name, a.bash())
}

func (a *App) fish() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# fish completion for %s\n", a.Name)
	for _, c := range a.Commands {
		fmt.Fprintf(&b, "complete -c %s -n __fish_use_subcommand -f -a %s -d '%s'\n", a.Name, c.Name, strings.ReplaceAll(c.Short, "'", `\'`))
		for _, f := range flags(c) {
			fmt.Fprintf(&b, "complete -c %s -n '__fish_seen_subcommand_from %s' -o %s\n", a.Name, c.Name, f[1:])
		}
	}
	fmt.Fprintf(&b, "complete -c %s -n __fish_use_subcommand -f -a completion\n", a.Name)
	fmt.Fprintf(&b, "complete -c %s -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n", a.Name)
	return b.String()
}
