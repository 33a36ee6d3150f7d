#define _GNU_SOURCE
#include <sched.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "request.h"
#include "test.h"

static struct request request;
static struct failure failure;

static int decode(uint32_t code, const char *json)
{
    request_free(&request);
    return request_decode(&request, code, json, strlen(json), &failure);
}

#define PROCESS                                                                        \
    "\"process\":{\"id\":\"init\",\"args\":[\"/bin/sh\",\"-c\",\"id\"],\"env\":[\"A=B\"]," \
    "\"user\":{\"name\":\"www\",\"groups\":[1,\"video\"],\"umask\":18},\"terminal\":false," \
    "\"stdin\":true,\"stdio\":3,\"stderr\":4,\"capabilities\":{\"bounding\":\"a80425fb\"}," \
    "\"rlimits\":[[7,1024,-1]],\"no_new_privs\":true,\"oom_score_adj\":-5," \
    "\"seccomp\":\"AAAAAAAAAAA=\"}"
#define OVERLAY                                                                  \
    "\"rootfs\":{\"kind\":\"overlay\",\"lower\":[{\"disk\":\"0:3\",\"fstype\":\"squashfs\"}]," \
    "\"upper\":{\"disk\":\"1:9\",\"fstype\":\"ext4\"}}"
#define CONTAINER(more)                                                           \
    "{\"seq\":2,\"id\":\"web\"," OVERLAY ",\"namespaces\":[\"pid\",\"mount\",\"network\"]," \
    more PROCESS "}"

TEST(archive)
{
    CHECK(decode(EXECCMD, "{\"seq\":1,\"container\":\"web\",\"process\":{\"id\":\"f\","
                          "\"archive\":{\"op\":\"put\",\"path\":\"/data\"}}}") == 0);
    CHECK(request.exec.archive->op == ARCHIVE_PUT);
    CHECK_TEXT(request.exec.archive->path, "/data");
    CHECK(decode(EXECCMD, "{\"seq\":1,\"container\":\"web\",\"process\":{\"id\":\"f\","
                          "\"archive\":{\"op\":\"erase\"}}}") < 0);
    CHECK(decode(EXECCMD, "{\"seq\":1,\"container\":\"web\",\"process\":{\"id\":\"f\","
                          "\"archive\":{\"op\":\"get\",\"path\":\"data\"}}}") < 0);
    CHECK(decode(EXECCMD, "{\"seq\":1,\"container\":\"web\",\"process\":{\"id\":\"f\"}}") < 0);
}

TEST(connect)
{
#define CONNECT(port) \
    "{\"seq\":1,\"container\":\"web\",\"process\":{\"id\":\"f\",\"connect\":" port "}}"
    CHECK(decode(EXECCMD, CONNECT("8080")) == 0);
    CHECK(request.exec.connect == 8080);
    CHECK(decode(EXECCMD, CONNECT("0")) < 0);
    CHECK(decode(EXECCMD, CONNECT("65536")) < 0);
    CHECK(decode(EXECCMD, CONNECT("\"http\"")) < 0);
}

static struct entry_spec header;
static struct arena arena;

static int entry_of(const char *json)
{
    memset(&failure, 0, sizeof failure);
    arena_free(&arena);
    return entry_decode(&header, &arena, json, strlen(json), &failure);
}

TEST(entries)
{
    CHECK(entry_of("{\"path\":\"a/b\",\"type\":\"f\",\"mode\":2541,\"uid\":7,\"size\":9,"
                   "\"sec\":-5,\"nsec\":1,\"xattrs\":{\"user.x\":\"YWI=\",\"user.y\":\"\"}}") ==
          0);
    CHECK_TEXT(header.path, "a/b");
    CHECK(header.type == 'f' && header.mode == 04755 && header.uid == 7 && header.size == 9);
    CHECK(header.seconds == -5 && header.xattrs_count == 2 && header.xattrs[0].size == 2);
    static const char *const bad[] = {
        "{\"path\":\"/a\",\"type\":\"f\"}",
        "{\"path\":\"a/../b\",\"type\":\"f\"}",
        "{\"path\":\"a\",\"type\":\"w\"}",
        "{\"path\":\"a\",\"type\":\"l\"}",
        "{\"path\":\"a\",\"type\":\"h\",\"target\":\"../x\"}",
        "{\"path\":\"a\",\"type\":\"h\",\"target\":\"/x\"}",
        "{\"path\":\"a\",\"type\":\"d\",\"size\":1}",
        "{\"path\":\"a\",\"type\":\"f\",\"size\":-1}",
        "{\"path\":\"a\",\"type\":\"f\",\"xattrs\":{\"user.x\":\"!\"}}",
        "{\"path\":\"a\",\"type\":\"f\",\"xattrs\":{\"user.x\":5}}",
        "[]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(entry_of(bad[i]) < 0);
    arena_free(&arena);
}

TEST(new_container)
{
    CHECK(decode(NEWCONTAINER,
                 CONTAINER("\"join\":{\"ipc\":\"other\"},"
                           "\"mounts\":[{\"source\":\"proc\",\"target\":\"/proc\","
                           "\"fstype\":\"proc\",\"flags\":14,\"data\":\"\"},"
                           "{\"share\":\"web/vol0\",\"target\":\"/data\",\"flags\":4096,"
                           "\"propagation\":262144}],"
                           "\"files\":[{\"path\":\"/etc/hostname\",\"content\":\"web\\n\"}],"
                           "\"devices\":[{\"path\":\"/dev/fuse\",\"type\":\"c\",\"major\":10,"
                           "\"minor\":229}],\"masked\":[\"/proc/kcore\"],"
                           "\"sysctl\":{\"a.b\":\"1\"},\"cgroup\":{\"memory.max\":\"1\"},"
                           "\"device_rules\":null,\"unknown\":[1,{\"x\":2}],")) == 0);
    const struct container_spec *spec = &request.new_container;
    CHECK(request.seq == 2);
    CHECK_TEXT(spec->id, "web");
    CHECK(spec->rootfs.kind == ROOTFS_OVERLAY && spec->rootfs.lower_count == 1);
    CHECK(spec->rootfs.lower[0].at.lun == 3 && spec->rootfs.upper->at.target == 1);
    CHECK(spec->unshare == (CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET));
    CHECK_TEXT(spec->join[NS_IPC], "other");
    CHECK(spec->mounts_count == 2 && spec->mounts[0].flags == 14);
    CHECK_TEXT(spec->mounts[1].share, "web/vol0");
    CHECK(spec->files_count == 1 && spec->files[0].mode == 0644);
    CHECK(spec->devices_count == 1 && spec->devices[0].mode == (S_IFCHR | 0666));
    CHECK(spec->masked_count == 1 && spec->sysctl.count == 1 && spec->cgroup.count == 1);
    CHECK_TEXT(spec->cgroup.items[0].value, "1");
    const struct process_spec *process = &spec->process;
    CHECK(process->args_count == 3 && !process->args[3] && process->env_count == 1);
    CHECK_TEXT(process->user_name, "www");
    CHECK(process->groups_count == 2 && process->umask == 022);
    CHECK_TEXT(process->groups[0], "1");
    CHECK_TEXT(process->groups[1], "video");
    CHECK_TEXT(process->cwd, "/");
    CHECK(process->stdio == 3 && process->stderr_stream == 4 && process->has_stdin);
    CHECK(process->capabilities.bounding == 0xa80425fb);
    CHECK(process->capabilities.permitted == UINT64_MAX && !process->capabilities.ambient);
    CHECK(process->rlimits_count == 1 && process->rlimits[0].hard == -1);
    CHECK(process->seccomp_size == 8 && process->has_oom_score_adj);
    request_free(&request);
}

TEST(bad_containers)
{
    static const struct {
        const char *json, *message;
    } cases[] = {
        {CONTAINER("\"device_rules\":[],"), "device_rules must be a string"},
        {CONTAINER("\"device_rules\":\"AAAA\","),
         "device_rules must be base64 of 1 to 16384 instructions"},
        {CONTAINER("\"time_offsets\":[[1,2]],"), "a time offset must be [clock, s, ns]"},
        {CONTAINER("\"mounts\":[{\"target\":\"/x\",\"fstype\":\"tmpfs\","
                   "\"attributes\":[1]}],"),
         "attributes must be [set, cleared]"},
        {CONTAINER("\"join\":{\"pid\":\"x\"},"), "the pid namespace can't be joined"},
        {CONTAINER("\"join\":{\"mount\":\"x\"},"), "the mount namespace can't be joined"},
        {CONTAINER("\"join\":{\"ipc\":\"../x\"},"), "join names no valid container"},
        {CONTAINER("\"join\":{\"user\":\"x\"},"), "unknown namespace \"user\""},
        {CONTAINER("\"mounts\":[{\"target\":\"data\",\"fstype\":\"tmpfs\"}],"),
         "target must be an absolute path"},
        {CONTAINER("\"mounts\":[{\"target\":\"/d\",\"share\":\"a/../../b\"}],"),
         "share must be a path below the share"},
        {CONTAINER("\"mounts\":[{\"target\":\"/d\"}],"), "mount of /d has no share, disk or fstype"},
        {CONTAINER("\"mounts\":[5],"), "target is missing"},
        {CONTAINER("\"mounts\":[[\"target\",\"/d\"]],"), "target is missing"},
        {CONTAINER("\"mounts\":{},"), "mounts must be an array"},
        {CONTAINER("\"cgroup\":{\"../x\":\"1\"},"), "bad name of a cgroup file"},
        {CONTAINER("\"sysctl\":{\"net/../../x\":\"1\"},"), "bad name of a sysctl"},
        {CONTAINER("\"devices\":[{\"path\":\"/d\",\"type\":\"x\"}],"),
         "type of a device must be c, b or p"},
        {CONTAINER("\"files\":[{\"path\":\"/d\",\"content\":\"\",\"mode\":65536}],"),
         "mode must be an integer of 0 to 4095"},
        {"{\"seq\":1,\"id\":\"..\"}", "id is not a valid identifier"},
        {"{\"seq\":1,\"id\":\"a\"}", "rootfs.kind is missing"},
        {"{\"seq\":1,\"id\":\"a\",\"rootfs\":{\"kind\":\"share\",\"path\":\"/x\"}}",
         "path must be a path below the share"},
        {"{\"seq\":1,\"id\":\"a\",\"rootfs\":{\"kind\":\"overlay\",\"lower\":[]}}",
         "rootfs.lower must name 1 to 500 disks"},
        {"{\"seq\":1,\"id\":\"a\"," OVERLAY "}", "namespaces must contain mount"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        CHECK(decode(NEWCONTAINER, cases[i].json) < 0 && failure.code == FAIL_BAD_REQUEST);
        CHECK_TEXT(failure.text, cases[i].message);
        if (strcmp(failure.text, cases[i].message) != 0)
            printf("# got: %s\n", failure.text);
    }
    request_free(&request);
}

TEST(exec)
{
    CHECK(decode(EXECCMD, "{\"seq\":3,\"container\":\"web\",\"process\":{\"id\":\"e1\","
                          "\"args\":[\"ls\"],\"terminal\":true,\"stdio\":9,\"stderr\":10}}") == 0);
    CHECK_TEXT(request.container, "web");
    CHECK_TEXT(request.exec.id, "e1");
    CHECK(request.exec.terminal && request.exec.stderr_stream == 0);
    CHECK(decode(EXECCMD, "{\"seq\":3,\"container\":\"web\",\"process\":{\"id\":\"e1\","
                          "\"args\":[]}}") < 0);
    CHECK(decode(EXECCMD, "{\"seq\":3,\"container\":\"web\"}") < 0);
    CHECK(decode(EXECCMD, "{\"seq\":3,\"container\":\"web\",\"process\":{\"id\":\"e1\","
                          "\"args\":[\"x\"],\"rlimits\":[[1,2]]}}") < 0);
    CHECK(decode(EXECCMD, "{\"seq\":3,\"container\":\"web\",\"process\":{\"id\":\"e1\","
                          "\"args\":[\"x\"],\"seccomp\":\"AAAA\"}}") < 0);
    CHECK(decode(EXECCMD, "{\"seq\":3,\"container\":\"web\",\"process\":{\"id\":\"e1\","
                          "\"args\":[\"x\"],\"stdio\":4,\"stderr\":4}}") < 0);
    request_free(&request);
}

TEST(sequence_numbers)
{
    static const char *const bad[] = {"{}", "{\"seq\":0}", "{\"seq\":-1}", "{\"seq\":\"1\"}",
                                      "{\"seq\":9007199254740992}", "[1]", "x"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK(decode(PING, bad[i]) < 0 && request.seq == 0);
    CHECK(decode(PING, "") < 0);
    CHECK(decode(PING, "{\"seq\":9007199254740991}") == 0);
    CHECK(request.seq == 9007199254740991);
    CHECK(decode(99, "{\"seq\":5}") < 0 && failure.code == FAIL_UNKNOWN_CODE && request.seq == 5);
    request_free(&request);
}

TEST(small_requests)
{
    CHECK(decode(KILLCONTAINER, "{\"seq\":1,\"container\":\"a\",\"signal\":9}") == 0);
    CHECK(request.signal == 9);
    CHECK(decode(SIGNALPROCESS, "{\"seq\":1,\"container\":\"a\",\"process\":\"p\",\"signal\":65}")
          < 0);
    CHECK(decode(WINSIZE, "{\"seq\":1,\"container\":\"a\",\"process\":\"p\",\"rows\":3,"
                          "\"cols\":70000}") < 0);
    CHECK(decode(ONLINECPUMEM, "{\"seq\":1}") == 0 && request.cpus == 0);
    CHECK(decode(ONLINECPUMEM, "{\"seq\":1,\"cpus\":4}") == 0 && request.cpus == 4);
    CHECK(decode(ONLINECPUMEM, "{\"seq\":1,\"cpus\":4097}") < 0);
    CHECK(decode(SETUPINTERFACE, "{\"seq\":1}") < 0);
    CHECK(decode(SETUPINTERFACE, "{\"seq\":1,\"mac\":\"x\",\"addresses\":[\"1/2\"]}") == 0);
    CHECK(request.interface.addresses_count == 1 && request.interface.up);
    CHECK(decode(SETUPROUTE, "{\"seq\":1,\"routes\":[{\"dest\":\"default\",\"device\":\"e\"}]}")
          == 0);
    CHECK(request.routes.count == 1);
    CHECK(decode(SETSERVICES, "{\"seq\":1,\"services\":[{\"ip\":\"10.0.0.1\",\"port\":80,\"backends\":"
                              "[{\"ip\":\"10.0.0.2\",\"port\":8080}]}]}") == 0);
    CHECK(request.services.count == 1 && request.services.items[0].backends_count == 1);
    CHECK(request.services.items[0].backends[0].port == 8080 && !request.services.items[0].udp);
    CHECK(decode(SETSERVICES, "{\"seq\":1,\"services\":[{\"ip\":\"10.0.0.x\",\"port\":80}]}") < 0);
    CHECK(decode(SETSERVICES, "{\"seq\":1,\"services\":[{\"ip\":\"10.0.0.1\"}]}") < 0);
    CHECK(decode(SETSERVICES, "{\"seq\":1,\"services\":[{\"ip\":\"10.0.0.1\",\"port\":70000}]}") < 0);
    CHECK(decode(STARTPOD, "{\"seq\":1,\"time\":[5,6],\"entropy\":\"QUJD\","
                           "\"share\":{\"tag\":\"t\",\"fstype\":\"9p\"}}") == 0);
    CHECK(request.pod.seconds == 5 && request.pod.nanoseconds == 6);
    CHECK(request.pod.entropy_size == 3 && request.pod.has_time);
    CHECK(decode(STARTPOD, "{\"seq\":1,\"time\":[5]}") < 0);
    CHECK(decode(STARTPOD, "{\"seq\":1,\"machine_id\":\"xyz\"}") < 0);
    CHECK(decode(STARTPOD, "{\"seq\":1,\"entropy\":\"Q\"}") < 0);
    CHECK(decode(SETTIME, "{\"seq\":1,\"sec\":7}") == 0 && request.pod.seconds == 7);
    request_free(&request);
}

TEST(renewal)
{
    CHECK(decode(RENEWCONTAINER,
                 "{\"seq\":1,\"container\":\"web\",\"hostname\":\"b\",\"machine_id\":"
                 "\"0123456789abcdef0123456789abcdef\","
                 "\"boot_id\":\"01234567-89ab-cdef-0123-456789abcdef\","
                 "\"files\":[{\"path\":\"/etc/hosts\",\"content\":\"x\"}]}") == 0);
    CHECK_TEXT(request.renewal.hostname, "b");
    CHECK(request.renewal.files_count == 1 && request.renewal.files[0].size == 1);
    CHECK(decode(RENEWCONTAINER, "{\"seq\":1,\"container\":\"web\"}") == 0);
    CHECK(!request.renewal.hostname && !request.renewal.boot_id);
    CHECK(decode(RENEWCONTAINER, "{\"seq\":1}") < 0);
    CHECK(decode(RENEWCONTAINER, "{\"seq\":1,\"container\":\"w\",\"boot_id\":\"x\"}") < 0);
    CHECK(decode(RENEWCONTAINER, "{\"seq\":1,\"container\":\"w\",\"machine_id\":\"x\"}") < 0);
    request_free(&request);
}

TEST(entropy_is_bounded)
{
    char json[2048] = "{\"seq\":1,\"entropy\":\"";
    size_t start = strlen(json);
    memset(json + start, 'A', 684);
    strcpy(json + start + 684, "\"}"); /* 513 bytes */
    CHECK(decode(STARTPOD, json) < 0);
    strcpy(json + start + 683, "=\"}"); /* 512 */
    CHECK(decode(STARTPOD, json) == 0 && request.pod.entropy_size == 512);
    request_free(&request);
}

TEST(names)
{
    char longest[ID_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[ID_MAX + 1] = '\0';
    CHECK(!valid_id(longest));
    longest[ID_MAX] = '\0';
    CHECK(valid_id(longest) && valid_id("a.b_c-D9"));
    CHECK(!valid_id("") && !valid_id(".a") && !valid_id("a/b") && !valid_id("a b"));
    CHECK(valid_cgroup_file("memory.max") && valid_cgroup_file("hugetlb.2_mb.max") == true);
    CHECK(!valid_cgroup_file("..") && !valid_cgroup_file("a/b") && !valid_cgroup_file(""));
    struct disk_address at;
    CHECK(parse_disk_address("1:16383", &at) && at.target == 1 && at.lun == 16383);
    CHECK(!parse_disk_address("1", &at) && !parse_disk_address("1:", &at));
    CHECK(!parse_disk_address(":1", &at) && !parse_disk_address("1:-1", &at));
    CHECK(!parse_disk_address("256:0", &at) && !parse_disk_address("0:16384", &at));
    uint64_t mask;
    CHECK(parse_hex64("a80425fb", &mask) && mask == 0xa80425fb);
    CHECK(parse_hex64("ffffffffffffffff", &mask) && mask == UINT64_MAX);
    CHECK(!parse_hex64("", &mask) && !parse_hex64("0x1", &mask) && !parse_hex64("g", &mask));
    CHECK(!parse_hex64("11111111111111111", &mask));
    CHECK(path_stays_below("a/b..c/..d") && path_stays_below("") && path_stays_below("/a//b"));
    CHECK(!path_stays_below("..") && !path_stays_below("a/..") && !path_stays_below("a//../b"));
}
