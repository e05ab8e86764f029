# SPDX-License-Identifier: Apache-2.0
# Completion of overlap-nc's command line, for bash.

_overlap_nc() {
  local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} is_unix=
  local joined=" ${COMP_WORDS[*]} "

  # Alone, or together with others that take no value.
  if [[ $joined == *" --unix "* || $joined =~ " "-[46dhklNnUuVvz]*U ]]; then
    is_unix=1
  fi

  COMPREPLY=()
  case $previous in
  --local | --socket)
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$word")
    return
    ;;
  -p | --source-port | -q | --quit | -w | --timeout)
    return
    ;;
  -s | --source)
    if [[ $is_unix ]]; then
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
    fi
    return
    ;;
  esac
  case $word in
  -*)
    mapfile -t COMPREPLY < <(compgen -W '--ipv4 --ipv6 --no-input --help --keep --listen --local --shutdown --numeric
      --source-port --quit --source --socket --unix --udp --version --verbose --timeout --probe
      -4 -6 -d -h -k -l -N -n -p -q -s -U -u -V -v -w -z' -- "$word")
    ;;
  *)
    if [[ $is_unix ]]; then
      compopt -o filenames
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
    else
      mapfile -t COMPREPLY < <(compgen -A hostname -- "$word")
    fi
    ;;
  esac
}

complete -F _overlap_nc overlap-nc
