# SPDX-License-Identifier: Apache-2.0
# Completion of overlapd's command line, for bash.

_overlapd() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} i

  COMPREPLY=()
  # Behind "--" is another command with arguments of its own.
  for ((i = 1; i < COMP_CWORD; i++)); do
    if [[ ${COMP_WORDS[i]} == -- ]]; then
      if declare -F _command_offset >/dev/null; then
        _command_offset $((i + 1))
      elif ((COMP_CWORD == i + 1)); then
        mapfile -t COMPREPLY < <(compgen -c -- "$word")
      else
        compopt -o filenames
        mapfile -t COMPREPLY < <(compgen -f -- "$word")
      fi
      return
    fi
  done
  case $previous in
  --engine)
    mapfile -t COMPREPLY < <(compgen -W 'auto uring epoll' -- "$word")
    return
    ;;
  --log)
    mapfile -t COMPREPLY < <(compgen -W 'journal stderr' -- "$word")
    return
    ;;
  --policy)
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -W 'system own' -- "$word"; compgen -d -- "$word")
    return
    ;;
  --socket | --config)
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
    ;;
  --workers | --poll-us)
    return
    ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W '--socket --engine --workers --log --poll-us --policy --config --check-config
    --private --version --help' -- "$word")
}

complete -F _overlapd overlapd
