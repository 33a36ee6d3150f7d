#include "test.h"
#include "users.h"

static const char passwd[] = "root:x:0:0:root:/root:/bin/sh\n"
                             "# comment\n"
                             "broken\n"
                             "www-data:x:33:33:www:/var/www:/usr/sbin/nologin\n"
                             "1001:x:7:8::/numeric:/bin/sh\n"
                             "nohome:x:50:51::\n"
                             "last:x:99:98:gecos:/last:/bin/sh";
static const char group[] = "root:x:0:\nwww-data:x:33:\nvideo:x:44:www-data,last\n"
                            "audio:x:45:root,www-data\nempty:x:46\nlast:x:98:\n";

static struct identity who;
static struct failure failure;

static int resolve(const char *name)
{
    memset(&who, 0, sizeof who);
    memset(&failure, 0, sizeof failure);
    return users_resolve(&who, name, NULL, 0, passwd, group, &failure);
}

TEST(user_by_name)
{
    CHECK(resolve("www-data") == 0);
    CHECK(who.uid == 33 && who.gid == 33 && who.groups_count == 2);
    CHECK(who.groups[0] == 44 && who.groups[1] == 45);
    CHECK_TEXT(who.home, "/var/www");
}

TEST(user_by_number_has_the_group_of_passwd)
{
    CHECK(resolve("99") == 0);
    CHECK(who.uid == 99 && who.gid == 98 && who.groups_count == 1);
    CHECK_TEXT(who.home, "/last");
}

TEST(a_name_of_digits_wins_over_the_number)
{
    CHECK(resolve("1001") == 0);
    CHECK(who.uid == 7 && who.gid == 8);
}

TEST(unknown_numbers_are_taken_as_they_are)
{
    CHECK(resolve("1234") == 0);
    CHECK(who.uid == 1234 && who.gid == 0 && who.groups_count == 0);
    CHECK_TEXT(who.home, "/");
    CHECK(resolve("1234:4321") == 0);
    CHECK(who.uid == 1234 && who.gid == 4321);
}

TEST(explicit_group_replaces_memberships)
{
    CHECK(resolve("www-data:video") == 0);
    CHECK(who.uid == 33 && who.gid == 44 && who.groups_count == 0);
    CHECK(resolve(":audio") == 0);
    CHECK(who.uid == 0 && who.gid == 45);
}

TEST(unknown_names_are_errors)
{
    CHECK(resolve("bob") < 0 && failure.code == 125);
    CHECK_TEXT(failure.text, "unable to find user bob: no matching entries in passwd file");
    CHECK(resolve("root:staff") < 0);
    CHECK_TEXT(failure.text, "unable to find group staff: no matching entries in group file");
    CHECK(resolve("4294967296") < 0);
    CHECK(resolve("2147483648") < 0);
    CHECK(resolve("-1") < 0);
}

TEST(additional_groups)
{
    char *extra[] = {"video", "1000", "video"};
    struct failure none = {0};
    memset(&who, 0, sizeof who);
    CHECK(users_resolve(&who, "root", extra, 3, passwd, group, &none) == 0);
    CHECK(who.groups_count == 3); /* audio, of which root is a member, video, 1000 */
    who.uid = 50;
    who.gid = 60;
    char *numbers[] = {"44"};
    CHECK(users_resolve(&who, NULL, numbers, 1, passwd, group, &none) == 0);
    CHECK(who.uid == 50 && who.gid == 60 && who.groups_count == 1 && who.groups[0] == 44);
    char *unknown[] = {"staff"};
    CHECK(users_resolve(&who, "root", unknown, 1, passwd, group, &none) < 0);
}

TEST(empty_files)
{
    struct failure none = {0};
    CHECK(users_resolve(&who, "0", NULL, 0, "", "", &none) == 0);
    CHECK(who.uid == 0 && who.gid == 0);
    CHECK(users_resolve(&who, "root", NULL, 0, "", "", &none) < 0);
}

TEST(no_home_in_passwd)
{
    CHECK(resolve("nohome") == 0);
    CHECK(who.uid == 50 && who.gid == 51);
    CHECK_TEXT(who.home, "/");
}
