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
    for program in tar git cat rm sync; do $program --version >/dev/null; done
}

took() {
    local name=$1 begin=${EPOCHREALTIME/./}
    shift
    "$@"
    echo "RESULT $name $((${EPOCHREALTIME/./} - begin))"
}

# One fio, whose start takes an emulated CPU seconds. Of the terse format, version 3, field 3 is the
# job, 7 the bandwidth of its reading, 48 that of its writing.
disk() {
    local fields
    fio --filename="$b/fio.data" --size=64m --direct=1 --ioengine=psync --time_based \
        --runtime="$seconds" --output-format=terse --terse-version=3 \
        --name=laid_out --rw=write --bs=1m \
        --name=read_4k --stonewall --rw=randread --bs=4k \
        --name=write_4k --stonewall --rw=randwrite --bs=4k \
        --name=read_1m --stonewall --rw=read --bs=1m \
        --name=write_1m --stonewall --rw=write --bs=1m >/tmp/fio 2>&1 || cat /tmp/fio
    while IFS=';' read -ra fields; do
        case ${fields[2]} in
        read_*) echo "RESULT ${fields[2]} ${fields[6]}" ;;
        write_*) echo "RESULT ${fields[2]} ${fields[47]}" ;;
        esac
    done </tmp/fio
    rm "$b/fio.data"
}

tree_to_tar() { tar -C "$b/tree" -cf - . | cat >/dev/null; }
tar_to_tree() { mkdir "$b/out" && tar -C "$b/out" -xf /tmp/files.tar && sync; }
status() { git -C "$b/tree" status --porcelain >/tmp/status; }
removal() { rm -rf "$b/out" && sync; }

cp "$b/files.tar" /tmp/files.tar
disk
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
