// Fails the n-th call of the C library that touches a file below a folder, for libraries that read and write by
// themselves: torch, NumPy, safetensors. Loaded by LD_PRELOAD, driven through ctypes (see faulty_disk.py).
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/types.h>
#include <unistd.h>

static char root[4096]; static size_t root_len; static int number; static long left=-1, seen; static int lasting;
static char last[8192]; static int writes_only;
void fault_arm(const char *r, int e, long nth, int for_ever, int wo){ strncpy(root,r,4095); root_len=strlen(root); number=e; left=nth; seen=0; lasting=for_ever; writes_only=wo; last[0]=0; }
long fault_seen(void){return seen;} const char *fault_last(void){return last;}
void fault_disarm(void){ left=-1; root_len=0; }
static int due(const char *op, const char *path, int writes){
  if(!root_len||!path||strncmp(path,root,root_len)) return 0;
  if(writes_only && !writes) return 0;
  seen++;
  if(left<0) return 0;
  if(lasting? seen>=left : seen==left){ if(!last[0]) snprintf(last,sizeof last,"%s %s",op,path+root_len); errno=number; return 1;}
  return 0;
}
static int due_fd(const char*op,int fd,int writes){ if(!root_len) return 0; char p[64],b[4096]; int e=errno; snprintf(p,64,"/proc/self/fd/%d",fd); ssize_t n=readlink(p,b,4095); errno=e; if(n<0) return 0; b[n]=0; return due(op,b,writes);}
static int at(const char*op,int dfd,const char*path,int writes){ if(!root_len) return 0; if(path[0]=='/'||dfd==AT_FDCWD) return due(op,path,writes); char p[64],b[8192]; snprintf(p,64,"/proc/self/fd/%d",dfd); ssize_t n=readlink(p,b,4095); if(n<0) return 0; snprintf(b+n,4096,"/%s",path); return due(op,b,writes);}
#define REAL(ret,name,...) static ret (*real)(__VA_ARGS__); if(!real) real=dlsym(RTLD_NEXT,#name);
#define W(f) (((f)&(O_WRONLY|O_RDWR|O_CREAT|O_TRUNC))!=0)
int open(const char*p,int f,...){ va_list a; va_start(a,f); int m=va_arg(a,int); va_end(a); REAL(int,open,const char*,int,...) if(due("open",p,W(f)))return -1; return real(p,f,m);}
int open64(const char*p,int f,...){ va_list a; va_start(a,f); int m=va_arg(a,int); va_end(a); REAL(int,open64,const char*,int,...) if(due("open",p,W(f)))return -1; return real(p,f,m);}
int openat(int d,const char*p,int f,...){ va_list a; va_start(a,f); int m=va_arg(a,int); va_end(a); REAL(int,openat,int,const char*,int,...) if(at("openat",d,p,W(f)))return -1; return real(d,p,f,m);}
int openat64(int d,const char*p,int f,...){ va_list a; va_start(a,f); int m=va_arg(a,int); va_end(a); REAL(int,openat64,int,const char*,int,...) if(at("openat",d,p,W(f)))return -1; return real(d,p,f,m);}
FILE*fopen(const char*p,const char*m){ REAL(FILE*,fopen,const char*,const char*) if(due("fopen",p,m[0]!='r'))return 0; return real(p,m);}
FILE*fopen64(const char*p,const char*m){ REAL(FILE*,fopen64,const char*,const char*) if(due("fopen",p,m[0]!='r'))return 0; return real(p,m);}
#define PATH1(ret,name,bad,w) ret name(const char*p){ REAL(ret,name,const char*) if(due(#name,p,w))return bad; return real(p);}
PATH1(int,unlink,-1,1) PATH1(int,rmdir,-1,1)
DIR*opendir(const char*p){ REAL(DIR*,opendir,const char*) if(due("opendir",p,0))return 0; return real(p);}
int mkdir(const char*p,mode_t m){ REAL(int,mkdir,const char*,mode_t) if(due("mkdir",p,1))return -1; return real(p,m);}
int rename(const char*a,const char*b){ REAL(int,rename,const char*,const char*) if(due("rename",a,1))return -1; return real(a,b);}
int stat(const char*p,struct stat*s){ REAL(int,stat,const char*,struct stat*) if(due("stat",p,0))return -1; return real(p,s);}
int stat64(const char*p,struct stat64*s){ REAL(int,stat64,const char*,struct stat64*) if(due("stat",p,0))return -1; return real(p,s);}
int lstat(const char*p,struct stat*s){ REAL(int,lstat,const char*,struct stat*) if(due("lstat",p,0))return -1; return real(p,s);}
int lstat64(const char*p,struct stat64*s){ REAL(int,lstat64,const char*,struct stat64*) if(due("lstat",p,0))return -1; return real(p,s);}
int unlinkat(int d,const char*p,int f){ REAL(int,unlinkat,int,const char*,int) if(at("unlinkat",d,p,1))return -1; return real(d,p,f);}
int utimensat(int d,const char*p,const struct timespec t[2],int f){ REAL(int,utimensat,int,const char*,const struct timespec*,int) if(p&&at("utimensat",d,p,1))return -1; return real(d,p,t,f);}
#define FD(ret,name,ARGS,CALL,w) ret name ARGS { static ret (*real) ARGS; if(!real) real=dlsym(RTLD_NEXT,#name); if(due_fd(#name,fd,w)) return -1; return real CALL; }
FD(ssize_t,write,(int fd,const void*b,size_t n),(fd,b,n),1)
FD(ssize_t,read,(int fd,void*b,size_t n),(fd,b,n),0)
FD(ssize_t,pwrite,(int fd,const void*b,size_t n,off_t o),(fd,b,n,o),1)
FD(ssize_t,pwrite64,(int fd,const void*b,size_t n,off64_t o),(fd,b,n,o),1)
FD(ssize_t,pread,(int fd,void*b,size_t n,off_t o),(fd,b,n,o),0)
FD(ssize_t,pread64,(int fd,void*b,size_t n,off64_t o),(fd,b,n,o),0)
FD(int,fsync,(int fd),(fd),1)
FD(int,fdatasync,(int fd),(fd),1)
FD(int,ftruncate,(int fd,off_t o),(fd,o),1)
FD(int,ftruncate64,(int fd,off64_t o),(fd,o),1)
int posix_fallocate(int fd,off_t a,off_t b){ REAL(int,posix_fallocate,int,off_t,off_t) if(due_fd("fallocate",fd,1))return number; return real(fd,a,b);}
int posix_fallocate64(int fd,off64_t a,off64_t b){ REAL(int,posix_fallocate64,int,off64_t,off64_t) if(due_fd("fallocate",fd,1))return number; return real(fd,a,b);}
FD(ssize_t,sendfile,(int fd,int in,off_t*o,size_t n),(fd,in,o,n),1)
FD(ssize_t,sendfile64,(int fd,int in,off64_t*o,size_t n),(fd,in,o,n),1)
ssize_t copy_file_range(int in,off64_t*a,int out,off64_t*b,size_t n,unsigned f){ REAL(ssize_t,copy_file_range,int,off64_t*,int,off64_t*,size_t,unsigned) if(due_fd("copy_file_range",out,1)||due_fd("copy_file_range",in,0))return -1; return real(in,a,out,b,n,f);}
void*mmap(void*a,size_t n,int pr,int fl,int fd,off_t o){ REAL(void*,mmap,void*,size_t,int,int,int,off_t) if(fd>=0&&due_fd("mmap",fd,0))return MAP_FAILED; return real(a,n,pr,fl,fd,o);}
void*mmap64(void*a,size_t n,int pr,int fl,int fd,off64_t o){ REAL(void*,mmap64,void*,size_t,int,int,int,off64_t) if(fd>=0&&due_fd("mmap",fd,0))return MAP_FAILED; return real(a,n,pr,fl,fd,o);}
size_t fwrite(const void*b,size_t s,size_t n,FILE*f){ REAL(size_t,fwrite,const void*,size_t,size_t,FILE*) if(due_fd("fwrite",fileno(f),1))return 0; return real(b,s,n,f);}
size_t fread(void*b,size_t s,size_t n,FILE*f){ REAL(size_t,fread,void*,size_t,size_t,FILE*) if(due_fd("fread",fileno(f),0))return 0; return real(b,s,n,f);}
int fstat(int fd,struct stat*s){ REAL(int,fstat,int,struct stat*) if(due_fd("fstat",fd,0))return -1; return real(fd,s);}
int fstat64(int fd,struct stat64*s){ REAL(int,fstat64,int,struct stat64*) if(due_fd("fstat",fd,0))return -1; return real(fd,s);}
