package main

import (
	"fmt"

	"github.com/urfave/cli/v2"
)

// The scripts ask the program itself what may come next, by its last argument
// --generate-bash-completion. They never do so behind "--": what stands there is
// somebody else's command, and cred lease would run it.

const bashCompletion = `# bash completion for cred
# in ~/.bashrc: source <(cred completion bash)

_cred() {
  local cur=${COMP_WORDS[COMP_CWORD]} i
  local -a request=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == -- ]]; then
      # A command of the user's own follows: complete it as if it stood alone.
      if declare -F _command_offset >/dev/null; then
        _command_offset $((i + 1))
      elif ((i + 1 == COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$cur"))
      else
        COMPREPLY=($(compgen -f -- "$cur"))
      fi
      return
    fi
    request+=("${COMP_WORDS[i]}")
  done
  [[ $cur == -* && $cur != -- ]] && request+=("$cur")
  [[ $cur == -- ]] && request+=("-")
  local IFS=$'\n'
  COMPREPLY=($(compgen -W "$("${COMP_WORDS[0]}" "${request[@]}" --generate-bash-completion 2>/dev/null)" -- "$cur"))
}
complete -o default -F _cred cred
`

const zshCompletion = `#compdef cred
# zsh completion for cred
# in ~/.zshrc, after compinit: source <(cred completion zsh)

_cred() {
  local -a request found
  local cur=${words[CURRENT]} i
  request=()
  for ((i = 2; i < CURRENT; i++)); do
    if [[ ${words[i]} == -- ]]; then
      # A command of the user's own follows: complete it as if it stood alone.
      shift $i words
      ((CURRENT -= i))
      _normal
      return
    fi
    request+=("${(Q)words[i]}")
  done
  [[ $cur == -* && $cur != -- ]] && request+=("$cur")
  [[ $cur == -- ]] && request+=("-")
  found=("${(@f)$(${(Q)words[1]} "${request[@]}" --generate-bash-completion 2>/dev/null)}")
  if [[ -n ${found[1]} ]]; then
    compadd -- "${found[@]}"
  else
    _files
  fi
}

if [[ $funcstack[1] == _cred ]]; then
  _cred "$@"
else
  compdef _cred cred
fi
`

const powershellCompletion = `# PowerShell completion for cred
# in $PROFILE: cred completion powershell | Out-String | Invoke-Expression

Register-ArgumentCompleter -Native -CommandName cred -ScriptBlock {
  param($wordToComplete, $commandAst, $cursorPosition)
  $words = @($commandAst.CommandElements |
    Where-Object { $_.Extent.EndOffset -lt $cursorPosition -or ($_.Extent.EndOffset -eq $cursorPosition -and $wordToComplete -eq '') } |
    ForEach-Object { $_.Extent.Text })
  # A command of the user's own follows "--": cred would run it.
  if ($words -contains '--') { return }
  $request = @($words | Select-Object -Skip 1)
  if ($wordToComplete -eq '--') { $request += '-' }
  elseif ($wordToComplete.StartsWith('-')) { $request += $wordToComplete }
  & $words[0] @request --generate-bash-completion 2>$null |
    Where-Object { $_.StartsWith($wordToComplete) } |
    ForEach-Object { [System.Management.Automation.CompletionResult]::new($_, $_, 'ParameterValue', $_) }
}
`

func completionCommand(e env) *cli.Command {
	script := func(shell, how, text string) *cli.Command {
		return &cli.Command{
			Name: shell, Usage: "print the script for " + shell, Description: how,
			Action: func(c *cli.Context) error {
				if err := noArguments(c); err != nil {
					return err
				}
				if text != "" {
					e.printf("%s", text)
					return nil
				}
				// Of fish the framework knows more than a script could ask for.
				fish, err := c.App.ToFishCompletion()
				if err != nil {
					return fmt.Errorf("making the script: %w", err)
				}
				e.printf("%s", fish)
				return nil
			},
		}
	}
	return &cli.Command{
		Name:  "completion",
		Usage: "print a script that completes commands and flags in your shell",
		Subcommands: []*cli.Command{
			script("bash", "in ~/.bashrc: source <(cred completion bash)", bashCompletion),
			script("zsh", "in ~/.zshrc, after compinit: source <(cred completion zsh)", zshCompletion),
			script("fish", "cred completion fish > ~/.config/fish/completions/cred.fish", ""),
			script("powershell", "in $PROFILE: cred completion powershell | Out-String | Invoke-Expression", powershellCompletion),
		},
	}
}
