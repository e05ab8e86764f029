# SPDX-License-Identifier: Apache-2.0
# Completion of overlapctl's command line, for bash.

_overlapctl() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} verb= options= i
  local common='--admin --socket --json --quiet --version --help'
  local verbs='config doctor list log metrics ping policy status top'

  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${COMP_WORDS[i]} in
    --admin | --socket) ((i++)) ;;
    -*) ;;
    *) verb=${verb:-${COMP_WORDS[i]}} ;;
    esac
  done
  case $previous in
  --admin | --socket | --file | --directory | -D | --cgroup)
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
    ;;
  --user)
    mapfile -t COMPREPLY < <(compgen -u -- "$word")
    return
    ;;
  --group)
    mapfile -t COMPREPLY < <(compgen -g -- "$word")
    return
    ;;
  --unit | -u)
    mapfile -t COMPREPLY < <(compgen -W "$(systemctl list-units --plain --no-legend --full 2>/dev/null |
      cut -d ' ' -f 1)" -- "$word")
    return
    ;;
  --sort | -o)
    if [[ $verb == top ]]; then
      mapfile -t COMPREPLY < <(compgen -W 'bytes ops received sent sockets in-flight age' -- "$word")
    fi
    return
    ;;
  --session | -s | --limit | --count | -c | --interval | -i | --iterations | -n | --delay | -d | --lines | --since | -S | \
    --until | -U)
    return
    ;;
  esac
  case $verb in
  '') options=$verbs ;;
  config) options=cat ;;
  list) options='sessions sockets ops ports threads quotas --session --user --unit --limit' ;;
  log)
    options='--follow --lines --since --until --unit --user --session --refused --directory --file --own --any'
    ;;
  ping) options='--count --interval' ;;
  policy)
    options='test connect listen sendto resolve export tcp udp unix --unit --user --group --cgroup --private-network'
    ;;
  top) options='--batch --iterations --delay --sort' ;;
  esac
  case $word in
  -*) mapfile -t COMPREPLY < <(compgen -W "$options $common" -X '[!-]*' -- "$word") ;;
  *) mapfile -t COMPREPLY < <(compgen -W "$options" -X '-*' -- "$word") ;;
  esac
}

complete -F _overlapctl overlapctl
