# Work on the files of a directory, as root of the guest: filework.sh DIRECTORY SECONDS.
# It has `tree`, a git repository with many small files, and `files.tar`, the same without .git.
# On stdout: RESULT NAME VALUE; microseconds of work, and KiB/s of fio, which runs for SECONDS.
b=$1 seconds=$2
export PATH=/usr/bin:/bin HOME=/tmp
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'

# Nothing of the files is in the guest's memory, but the programs are.
cold() {
    sync
    echo 3 >/proc/sys/vm/drop_caches
    for program in tar cat git fio rm sync; do $program --version >/dev/null; done
}

took() {
    local name=$1 begin=${EPOCHREALTIME/./}
    shift
    "$@"
    echo "RESULT $name $((${EPOCHREALTIME/./} - begin))"
}

# The terse format, version 3: field 7 is the bandwidth of reading, 48 that of writing.
disk() {
    local name=$1 rw=$2 field=$3 fields
    fio --name=x --filename="$b/fio.data" --size=64m --rw="$rw" --bs="$4" --direct=1 \
        --ioengine=psync --runtime="$seconds" --time_based \
        --output-format=terse --terse-version=3 >/tmp/fio 2>&1 || cat /tmp/fio
    IFS=';' read -ra fields </tmp/fio
    echo "RESULT $name ${fields[field - 1]}"
}

tree_to_tar() { tar -C "$b/tree" -cf - . | cat >/dev/null; }
tar_to_tree() { mkdir "$b/out" && tar -C "$b/out" -xf /tmp/files.tar && sync; }
status() { git -C "$b/tree" status --porcelain >/tmp/status; }
removal() { rm -rf "$b/out" && sync; }

cp "$b/files.tar" /tmp/files.tar
disk laid_out write 48 1m >/dev/null
disk read_4k randread 7 4k
disk write_4k randwrite 48 4k
disk read_1m read 7 1m
disk write_1m write 48 1m
rm "$b/fio.data"
status # which writes an index that knows the inodes
cold
took tree_to_tar tree_to_tar
cold
took git_status status
took git_status_again status
cold
took tar_to_tree tar_to_tree
took removal removal
echo RESULT end 1
